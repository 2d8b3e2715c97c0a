# SPDX-License-Identifier: Apache-2.0
"""Derivatives: the pure function of Variables and arguments that all of them share."""

from __future__ import annotations

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from ..._typing import Model, PyTree
from ...core import Transformed, describe
from ...errors import GradientError, message
from ...runtime import Cell, Effects, top
from .._errors import Explained
from .._lift import Run, commit, discovering, placeholder, read, run_to_fixed_point
from .._packed import Values, held, pack, unpack
from .._positions import check_argnums
from .._records import parted, rejoined
from ._mean import mean, warn_of_sum
from ._targets import Targets

Diff = tuple[list[Any], tuple[Any, ...]]
"""Inputs of a derivative: (values of the Variables, the chosen arguments)."""


class Outcome(NamedTuple):
    """The results of one differentiated run."""

    targets: Targets | None
    derivatives: Any
    y: Any
    aux: Any
    trees: tuple[list[Any], list[Any]]


class Differentiated(Transformed):
    """A function that returns derivatives; what `grad` and its kin return.

    Args:
        transform: takes ``f(diff) -> (y, aux)`` and returns
            ``g(diff) -> (derivatives, aux)``.
        fun: the user's function.
        grad_vars: what `Targets` takes, or None.
        argnums: positions of arguments, or None.
        has_aux: whether ``fun`` returns ``(y, aux)``.
        return_value: whether to return ``y`` too.
        dtypes: ``(holomorphic, allow_int)``, and True third in forward mode.
        levels: how often ``diff`` is nested in the derivatives: 0 where they have the
            structure of ``diff`` itself; n where each leaf of ``y`` has n levels.
        plain: whether the derivatives have the shapes of ``diff`` too.
        allow_unused: whether a Variable that ``fun`` does not read is nothing to warn
            of.
        mean_over: axes of a mesh over which ``y`` is averaged; None where nothing is
            said of meshes.
    """

    def __init__(
        self,
        transform: Callable[[Callable], Callable],
        fun: Callable,
        grad_vars: Model,
        argnums: int | Sequence[int] | None,
        has_aux: bool | None,
        return_value: bool,
        dtypes: tuple[bool, ...] = (False, False),
        levels: int = 0,
        plain: bool = False,
        allow_unused: bool = True,
        mean_over: tuple[str, ...] | None = None,
    ):
        if not callable(fun):
            raise TypeError(
                f"A function is differentiated, not a {type(fun).__name__}."
            )
        self._transform = transform
        argnums = _positions(argnums)
        self._fun = fun
        self._grad_vars = grad_vars
        self._argnums = 0 if argnums is None and grad_vars is None else argnums
        self._has_aux = bool(has_aux)
        self._return_value = return_value
        self._dtypes = dtypes
        self._levels = levels
        self._mean_over = mean_over
        # Gradients of integers have the dtype float0, which no placeholder stands for.
        self._plain = plain and not dtypes[1]
        self._allow_unused = allow_unused
        super().__init__(fun)

    def __call__(self, *args, **kwargs):
        with Explained(self._fun, "bo.grad"):
            outcome = self.derive(args, kwargs)
        if self._levels:
            tree = jax.tree.structure(outcome.y)
            each = [
                self.arranged(outcome, d, self._levels)
                for d in tree.flatten_up_to(outcome.derivatives)
            ]
            grads = jax.tree.unflatten(tree, each)
        else:
            grads = self.arranged(outcome, outcome.derivatives)
        extras = [unpack(outcome.y)] if self._return_value else []
        extras += [unpack(outcome.aux)] if self._has_aux else []
        return (grads, *extras) if extras else grads

    def derive(self, args: tuple, kwargs: dict) -> Outcome:
        """Run the function once, commit what it wrote, and return the results."""
        targets = None if self._grad_vars is None else Targets(self._grad_vars)
        if targets is not None:
            targets.check(*self._dtypes)
        variables = [] if targets is None else targets.unique
        places = self._places(len(args))
        check_argnums(places, args)
        diff = [read(v) for v in variables], tuple(pack(args[i]) for i in places)
        by_nodes = [Values(args[i]) for i in places]
        _check_once([*variables, *(v for node in by_nodes for v in node.variables)])
        args, kwargs = held((args, kwargs))
        outline = jax.tree.structure
        trees = list(map(outline, diff[0])), list(map(outline, diff[1]))

        def run(diff: Diff, effects: Effects | None) -> Run:
            values, chosen = diff
            filled: list[Any] = list(args)
            bindings: list[tuple[Cell, Any]] = []
            bindings += zip(variables, values, strict=True)
            for i, arg, of in zip(places, chosen, by_nodes, strict=True):
                filled[i] = of.fill(arg, bindings)
            return Run(self._fun, filled, bindings, effects, kwargs)

        def attempt(effects: Effects):
            seen: list[Effects] = []
            reads: set[Cell] = set()

            def pure(diff: Diff):
                ran = run(diff, effects)
                # JAX may trace more than once: the results are those of the last trace,
                # but what any of them read was read.
                seen[:] = [ran.effects]
                reads.update(ran.reads)
                y, aux = self._split(ran.out)
                if self._mean_over is not None:
                    y = mean(y, self._mean_over)
                    warn_of_sum(y, diff[0])
                return y, (y, aux, ran.results(ran.effects.written))

            derivatives, (y, aux, values) = self._transform(pure)(diff)
            # The written Variables leave through `aux`: their set need not be known
            # beforehand, so one run is always enough.
            out = Outcome(targets, derivatives, y, aux, trees)
            if targets is not None and not self._allow_unused:
                _warn_of_unused(self._fun, targets.unread(reads))
            return (out, seen[0].written, values), Effects((), seen[0].inner)

        # A trace that only looks for Variables needs no gradients. It runs the function
        # once as it is; placeholders of the same shapes stand for the derivatives.
        scouting, frame = discovering(), top()
        if scouting is not None and frame is not None and self._plain:
            frame.cached_effects()  # one entry for each call, as in `_lift`
            scouting.skipped_work = True
            ran = run(diff, None)
            frame.inner.append(Effects((), ran.effects.inner))
            commit(ran.effects.written, ran.results(ran.effects.written))
            derivatives = jax.tree.map(placeholder, diff)
            return unpack(Outcome(targets, derivatives, *self._split(ran.out), trees))
        return run_to_fixed_point(lambda: (Effects(), None), attempt)

    def _places(self, count: int) -> tuple[int, ...]:
        if self._argnums is None:
            return ()
        nums = self._argnums
        nums = (nums,) if isinstance(nums, int) else nums
        for n in nums:
            if not -count <= n < count:
                raise ValueError(
                    message(
                        f"argnums={self._argnums} for a call with {count} arguments.",
                        help="to differentiate by Variables, give `grad_vars`.",
                    )
                )
        return tuple(n % count for n in nums)

    def _split(self, out: Any) -> tuple[Any, Any]:
        out, records = parted(out)
        if not self._has_aux:
            return out, rejoined(None, records)
        if not isinstance(out, tuple) or len(out) < 2:
            raise TypeError(
                message(
                    "has_aux=True, but the function did not return a tuple "
                    "(value, aux).",
                )
            )
        return out[0], rejoined(out[1] if len(out) == 2 else out[1:], records)

    def arranged(self, outcome: Outcome, diff: PyTree, levels: int = 1) -> Any:
        """Put derivatives by ``diff`` into the structure of the table of `grad`."""
        by_variables, by_args = diff
        targets = outcome.targets
        if levels > 1:
            of_variables, of_args = outcome.trees
            by_args = self._nested(outcome, by_args, of_args, levels)
            by_variables = self._nested(outcome, by_variables, of_variables, levels)
        by_args = unpack(by_args)
        single = isinstance(self._argnums, int)
        by_args = by_args[0] if single else tuple(by_args)
        if targets is None:
            return by_args
        if self._argnums is None:
            return targets.arrange(by_variables)
        return targets.arrange(by_variables), by_args

    def _nested(self, outcome: Outcome, parts, trees, levels: int) -> list[Any]:
        found = []
        for part, tree in zip(parts, trees, strict=True):
            # One level of the second derivative below each leaf of the first.
            inner = tree.flatten_up_to(part)
            inner = [self.arranged(outcome, d, levels - 1) for d in inner]
            found.append(jax.tree.unflatten(tree, inner))
        return found


def _check_once(variables: Sequence[Cell]) -> None:
    twice = [v for v, count in Counter(variables).items() if count > 1]
    if twice:
        raise GradientError(
            message(
                "These Variables are differentiated by in two places:",
                [v.label for v in twice],
                "name each once, in `grad_vars` or in one of the arguments.",
            )
        )


def _positions(argnums: Any) -> int | tuple[int, ...] | None:
    many = isinstance(argnums, Sequence)
    if argnums is None:
        return None
    if all(map(_is_integer, argnums if many else [argnums])):
        return tuple(argnums) if many else operator.index(argnums)
    raise TypeError(
        message(
            f"argnums={argnums!r} is neither an integer nor a sequence of integers.",
            help="to differentiate by Variables, give `grad_vars`.",
        )
    )


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


_told: set[tuple[str, str]] = set()


def _warn_of_unused(function: Callable, names: Sequence[str]) -> None:
    """Warn once of each Variable that a function does not read."""
    place = describe(function)
    fresh = [name for name in names if (place, name) not in _told]
    if not fresh:
        return
    _told.update((place, name) for name in fresh)
    warnings.warn(
        message(
            f"{place} never read these Variables, so their gradients are zero:",
            fresh,
            "compute with the Variables themselves, not with copies made before; or "
            "leave them out of `grad_vars`; or pass `allow_unused=True`.",
        ),
        stacklevel=2,
    )
