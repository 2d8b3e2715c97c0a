# SPDX-License-Identifier: Apache-2.0
"""Compiled functions that read and write Variables."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, overload

import jax

from .. import runtime
from .._compat import config, is_eager, is_plain
from .._typing import P, R
from ..core import Transformed, as_transform, describe, method_of
from ..errors import HostError, message
from ..runtime import Effects, changes
from ._errors import Explained, models_among, raise_lost, refusal
from ._lift import run_directly
from ._packed import is_state, is_view
from ._prints import HeldPrints
from ._records import keyed
from .programs._compilations import Compilations
from .programs._program import Program
from .programs._retrace import DeepState, UnknownVariables, forget
from .programs._static import Split, Static

_OPTIONS = {
    "backend",
    "compiler_options",
    "device",
    "in_shardings",
    "inline",
    "keep_unused",
    "out_shardings",
}


_MAX_EARLIER = 16
"""The number of programs of earlier Python values kept beside the current one."""


_Rest = ParamSpec("_Rest")


class Jitted(Transformed[P, R]):
    """A compiled function, the result of `jit`; it is called as the function is.

    It has the methods of what `jax.jit` returns: ``lower``, ``trace``, ``eval_shape``
    and ``clear_cache``. Variables stand in their results as further inputs and
    outputs; their values do not change. ``compiles`` counts the compilations.
    """

    def __init__(
        self,
        function: Callable[P, R],
        static: Static,
        donate: bool,
        safe: bool,
        options: dict[str, Any],
        transform: str = "bo.jit",
    ):
        self._function = function
        self._transform = transform
        self._static = static
        self._donate = donate
        self._donates = donate and not safe
        self._safe = safe
        self._options = options
        self._programs: dict[Any, Program] = {}
        self._earlier: dict[Any, list[Program]] = {}
        self._compilations = Compilations(function)
        super().__init__(function)
        with contextlib.suppress(TypeError, ValueError):
            self.__signature__ = inspect.signature(function)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Jitted[P, R]: ...

    @overload
    def __get__(
        self: Jitted[Concatenate[Any, _Rest], R],
        instance: object,
        owner: type | None = None,
    ) -> Jitted[_Rest, R]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return super().__get__(instance, owner)

    def _made_for(self, owner: Callable[[], Any]) -> Jitted:
        return Jitted(
            method_of(self._function, owner),
            self._static.shifted(),
            self._donate,
            self._safe,
            self._options,
        )

    def _as_method(self, made: Transformed, instance: Any) -> Jitted:
        # What is kept must not keep the instance alive; what is handed out must.
        bound = Jitted.__new__(Jitted)
        bound.__dict__ = made.__dict__ | {"__self__": instance, "__func__": self}
        return bound

    def __repr__(self) -> str:
        return f"<{self._transform} of {describe(self._function)}>"

    @property
    def compiles(self) -> int:
        """The number of compilations of the function; of a method for each instance."""
        return self._compilations.count

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        # The compiled road. Each line here is paid by each step, so it makes no frame
        # and no `Split`; everything unusual goes on below.
        if self._donates and is_plain() and runtime.at_rest():
            if self._static.splits:
                key, _, _, _, given, named = self._static.split(args, kwargs)
            else:
                key, given, named = None, args, kwargs
            program = self._programs.get(key)
            if (
                program is not None
                and program.native
                and (program.checked == changes.count or not program.stale())
            ):
                try:
                    return program.launch(given, named)
                except UnknownVariables as news:
                    # JAX traced the function for another shape of the arguments, and
                    # that trace touched more.
                    forget(news)
                    self._programs[key] = program.extended(news)
                except (DeepState, TypeError) as error:
                    self._look(error, program, args, kwargs)
                except BaseException as error:
                    # Also KeyboardInterrupt, which may come inside of an ``__exit__``.
                    runtime.abandon()
                    raise_lost(error, program)
        if config.jax_disable_jit:
            return run_directly(functools.partial(self._function, **kwargs), args)
        with Explained(self._function, self._transform):
            return self._learn(self._run, args, kwargs)

    def _learn(self, run: Callable, args, kwargs) -> Any:
        """Run a program that knows every Variable, and keep it for the next call."""
        frame = runtime.top()
        # With the effects of the last run of the function around, the first trace is
        # complete; without, it is one of discovery.
        hint = frame.cached_effects() if frame is not None else None
        split = self._static.split(args, kwargs)
        program = self._programs.get(keyed(split.key))
        if program is not None and program.broken:
            program = program.renewed()
        elif program is not None and program.stale():
            program = self._earlier_program(keyed(split.key), program)
        if program is None:
            if reason := refusal(self._function, args, kwargs):
                raise HostError(reason)
            effects, discovery_only = hint or Effects(), hint is None
            program = self._program(split, effects, discovery_only)
        runtime.warn_of_constants(program.written)
        # Ends, since each round knows a Variable or an argument more than the last, or
        # comes after the only one that skips work.
        while True:
            try:
                with runtime.Outermost(), HeldPrints(UnknownVariables, DeepState):
                    out = run(program, split.args, split.kwargs)
                break
            except UnknownVariables as news:
                forget(news)
                program = program.extended(news)
            except (DeepState, TypeError) as error:
                self._look(error, program, args, kwargs)
                split = self._static.split(args, kwargs)
                program = self._program(split, Effects(), True)
        # A program that is kept would keep the Variables of a trace beyond its end.
        if program.lasting():
            self._programs[keyed(split.key)] = program
        if frame is not None:
            frame.inner.append(program.learned())
        return out

    def _earlier_program(self, key: Any, stale: Program) -> Program | None:
        """Return a program of earlier Python values, if these are back."""
        programs = self._earlier.setdefault(key, [])
        found = next((p for p in programs if not p.stale()), None)
        # Programs whose values may come back; a lapsed one would only keep memory.
        kept = [p for p in (stale, *programs) if p is not found and not p.lapsed()]
        programs[:] = kept[:_MAX_EARLIER]
        return found

    def _program(self, split: Split, effects: Effects, discovery_only: bool) -> Program:
        function = split.bind(self._function)
        return Program(
            function,
            effects,
            effects.known,
            self._options,
            discovery_only,
            self._compilations,
        )

    def _look(self, error: Exception, program: Program, args, kwargs) -> None:
        """Look for Nodes and Variables among arguments that JAX cannot take."""
        before = self._static.splits, self._static.deep
        leaves = jax.tree.leaves((args, kwargs), is_leaf=is_state)
        if type(error) is DeepState or any(map(is_view, leaves)):
            self._static.look(args, kwargs)
        # Nothing new was found, so another attempt would fail alike.
        if before == (self._static.splits, self._static.deep):
            traced = self._static.split(args, kwargs)
            if reason := models_among(traced.args, traced.kwargs):
                raise HostError(reason) from error
            raise_lost(error, program)
        forget(error)

    def _run(self, program: Program, args, kwargs) -> Any:
        if not (program.native and runtime.at_rest() and is_eager()):
            return program.inline(args, kwargs)
        careful = self._safe or not is_plain()
        if careful or not self._donate:
            return program.keep(args, kwargs, wait=careful)
        try:
            return program.launch(args, kwargs)
        except (UnknownVariables, DeepState):
            raise  # `_learn` tries again; nothing has run
        except BaseException as error:
            raise_lost(error, program)

    def trace(self, *args, **kwargs) -> jax.stages.Traced:
        """Return the traced function, as ``jax.jit(…).trace`` does."""
        return self._learn(Program.traced, args, kwargs)

    def lower(self, *args, **kwargs) -> jax.stages.Lowered:
        """Return the lowered function, as ``jax.jit(…).lower`` does."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args, **kwargs) -> Any:
        """Return the shapes and dtypes of what a call would return."""
        return self._learn(Program.shapes, args, kwargs)

    def clear_cache(self) -> None:
        """Forget all compiled code, and the Variables and Nodes it refers to."""
        self._programs.clear()
        self._earlier.clear()
        for method in self._for.values():
            if isinstance(method, Jitted):
                method.clear_cache()


@overload
def jit(
    fun: Callable[P, R],
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate: bool = True,
    safe: bool = False,
    **options: Any,
) -> Jitted[P, R]: ...


@overload
def jit(
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate: bool = True,
    safe: bool = False,
    **options: Any,
) -> Callable[[Callable[P, R]], Jitted[P, R]]: ...


@as_transform
def jit(
    fun: Any = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate: bool = True,
    safe: bool = False,
    **options: Any,
) -> Any:
    """Compile a function that reads and writes Variables.

    What it reads and writes is found by running it once; nothing is declared. The
    buffers of Variables that it writes are reused for their new values (donation);
    an array that anybody else still holds is copied first, so it stays readable. An
    error while tracing or compiling leaves every Variable as it was.

    Args:
        fun: a function, bound method, or Node with ``__call__``; left out, ``jit`` is
            a decorator with arguments. On a method of a class it compiles once for
            each instance. Nodes among the arguments are taken by identity, as if the
            function closed over them; Variables by value.
        static_argnums: positions of arguments that are compiled in; negative ones
            count from the end.
        static_argnames: names of such arguments.
        donate: whether written Variables give up their buffers.
        safe: keep the old values until the results are there, and leave the state as
            it was if the step fails while running. Costs the memory of one state and
            waits for each step; used by itself under ``jax_debug_nans``.
        options: further options of `jax.jit`: ``in_shardings`` and ``out_shardings``
            (aligned to the arguments that are not compiled in and to the result),
            ``keep_unused``, ``inline``, ``compiler_options``.

    Returns:
        The compiled function; it also has ``lower``, ``trace``, ``eval_shape`` and
        ``clear_cache``.

    Raises:
        StateLostError: a donated step failed while running (not with ``safe``).

    Example:
        >>> import brainopt as bo
        >>> count = bo.Variable(0.0)
        >>> @bo.jit
        ... def step(by):
        ...     count.value += by
        ...     return count * 10
        >>> float(step(2.0)), float(count)
        (20.0, 2.0)
    """
    if not callable(fun):
        raise TypeError(f"bo.jit takes a function, not a {type(fun).__name__}.")
    if unknown := sorted(options.keys() - _OPTIONS):
        raise TypeError(
            message(
                "bo.jit does not take these options:",
                unknown,
                "Variables are donated without being named; to donate an argument, "
                "keep it in a Variable.",
            )
        )
    static = Static(fun, static_argnums, static_argnames)
    return Jitted(fun, static, donate, safe, options)
