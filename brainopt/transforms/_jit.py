# SPDX-License-Identifier: Apache-2.0
"""Compiled functions that read and write Variables."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import is_eager
from ..core import Variable
from ..core import _slot, _trace
from ..core._trace import Frame, Lesson
from ..errors import StateLostError, message
from ._lift import merge, plain
from ._static import Static


class _Relearn(Exception):
    """The function touched Variables that the program does not thread yet."""

    def __init__(self, lesson: Lesson, known: Sequence[Variable]):
        self.lesson = lesson
        self.known = known


class _Program:
    """One compiled form of a function: what it threads, and the code.

    Variables whose shape never changes are donated when written; the others
    (``batch_axis``) and those only read are not.
    """

    def __init__(self, function: Callable, lesson: Lesson, known=(), **options):
        written = lesson.written
        self.function = function
        self.lesson = lesson
        self.options = options
        self.revisions: dict[_trace.Revision, int] = {}
        self.donated = tuple(v for v in written if v.batch_axis is None)
        self.written = self.donated + tuple(
            v for v in written if v.batch_axis is not None
        )
        read_only = tuple(v for v in known if v not in set(written))
        self.kept = self.written[len(self.donated) :] + read_only
        self.native = all(v._native for v in self.donated + self.kept)
        self.donating = jax.jit(self._pure, donate_argnums=0, **options)
        self.plain = jax.jit(lambda *args: self._pure(*args), **options)

    def relearned(self, news: _Relearn) -> _Program:
        """Return a program that threads what this one and ``news`` know."""
        lesson = merge(self.lesson, news.lesson)
        lesson.inner = news.lesson.inner
        known = dict.fromkeys((*self.kept, *news.known))
        return _Program(self.function, lesson, known, **self.options)

    def stale(self) -> bool:
        """Whether something baked into the code has changed since."""
        return any(revision.count != n for revision, n in self.revisions.items())

    def lasting(self) -> bool:
        """Whether every Variable outlives the trace that is running now."""
        frame = _trace.top()
        while frame is not None:
            if not frame.born.keys().isdisjoint(self.donated + self.kept):
                return False
            frame = frame.parent
        return True

    def _pure(self, donated, kept, args, kwargs):
        known = self.donated + self.kept
        values = (*donated, *kept)
        with Frame(zip(known, values, strict=True), self.lesson, sealed=True) as frame:
            out = plain(self.function(*args, **kwargs))
            lesson = frame.lesson()
            if frame.missing or not set(lesson.written) <= set(self.written):
                raise _Relearn(
                    lesson, [v for v in frame.missing if v not in frame.born]
                )
            self.lesson.inner = lesson.inner
            self.revisions.update(frame.revisions)
            return out, *(frame.values[v] for v in self.written)

    def launch(self, args, kwargs) -> Any:
        """Run at top level, donating what nobody else holds."""
        with _slot.lock:
            donated = self._donatable()
            kept = tuple(map(_slot.get, self.kept))
            arguments = (donated, kept, args, kwargs)
            return _slot.run_and_commit(self.donating, arguments, self.written)

    def _donatable(self) -> tuple:
        if _slot.all_sole(self.donated):
            return tuple(map(_slot.get, self.donated))
        return tuple(
            jax.tree.map(jnp.copy, _slot.get(v)) if held else _slot.get(v)
            for v, held in zip(self.donated, _slot.shared(self.donated), strict=True)
        )

    def inline(self, args, kwargs, wait: bool = False) -> Any:
        """Run inside another trace, or without donation; write when it succeeded."""
        donated = tuple(map(_trace.read, self.donated))
        kept = tuple(map(_trace.read, self.kept))
        out, *values = self.plain(donated, kept, args, kwargs)
        if wait:
            jax.block_until_ready((out, values))
        frame = _trace.top()
        while frame is not None:
            frame.revisions.extend(self.revisions.items())
            frame = frame.parent
        _trace.commit(self.written, values)
        return out

    def lost(self) -> list[str]:
        """Return the labels of the Variables whose values are gone."""
        return [
            variable.label
            for variable in self.written
            if any(
                isinstance(leaf, jax.Array) and leaf.is_deleted()
                for leaf in jax.tree.leaves(variable._committed())
            )
        ]


class Jitted:
    """What `jit` returns: call it as you would call the function."""

    def __init__(self, function: Callable, static: Static, donate, safe, options):
        self._function = function
        self._static = static
        self._donate = donate
        self._safe = safe
        self._options = options
        self._programs: dict[Any, _Program] = {}
        self._bound: weakref.WeakKeyDictionary[Any, Jitted] = (
            weakref.WeakKeyDictionary()
        )
        functools.update_wrapper(self, function, updated=())

    def __get__(self, instance: Any, owner: type | None = None) -> Jitted:
        if instance is None:
            return self
        if instance not in self._bound:
            ref = weakref.ref(instance)
            function = self._function

            @functools.wraps(function)
            def method(*args, **kwargs):
                return function(ref(), *args, **kwargs)

            self._bound[instance] = Jitted(
                method, self._static.shifted(), self._donate, self._safe, self._options
            )
        return self._bound[instance]

    def __call__(self, *args, **kwargs):
        if jax.config.jax_disable_jit:
            return self._run_plain(args, kwargs)
        key, function = None, self._function
        if self._static.applies(args, kwargs):
            key, function, args, kwargs = self._static.split(function, args, kwargs)
        program = self._programs.get(key)
        if program is None or program.stale():
            program = _Program(function, Lesson(), **self._options)
        while True:
            try:
                return self._call(program, args, kwargs)
            except _Relearn as news:
                program = program.relearned(news)
            if program.lasting():
                self._programs[key] = program

    def _call(self, program: _Program, args, kwargs) -> Any:
        safe = self._safe or jax.config.jax_debug_nans
        if _trace.top() is not None or not program.native or not is_eager():
            return program.inline(args, kwargs)
        if safe or not self._donate:
            with _slot.lock:
                return program.inline(args, kwargs, wait=safe)
        try:
            return program.launch(args, kwargs)
        except _Relearn:
            raise
        except Exception as error:
            _trace.snapshot(program.donated + program.kept)
            lost = program.lost()
            if not lost:
                raise
            raise StateLostError(
                message(
                    "The step failed while it ran; the values it had been given to "
                    "overwrite are gone:",
                    lost,
                    "load the last checkpoint. `bo.jit(safe=True)` keeps the old values "
                    "until a step has succeeded.",
                )
            ) from error

    def _run_plain(self, args, kwargs) -> Any:
        with Frame() as frame:
            out = plain(self._function(*args, **kwargs))
            written = list(frame.lesson().written)
            values = [frame.values[v] for v in written]
        _trace.commit(written, values)
        return out


def jit(
    fun: Callable | None = None,
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
        options: further options of `jax.jit`.

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
    if fun is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate=donate,
            safe=safe,
            **options,
        )
    if not callable(fun):
        raise TypeError(f"bo.jit takes a function, not a {type(fun).__name__}.")
    static = Static(fun, static_argnums, static_argnames)
    return Jitted(fun, static, donate, safe, options)
