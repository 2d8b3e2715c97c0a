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
from ...core import Transformed, describe, is_quantity, quotient, with_mantissa
from ...errors import GradientError, message
from ...runtime import Cell, Effects, top
from .._errors import Explained
from .._lift import Run, commit, discovering, placeholder, read, run_to_fixed_point
from .._packed import Values, held, pack, unpack
from .._positions import check_argnums
from .._records import parted, rejoined
from ._loss import check_loss
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
    diff: Diff


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
        levels: 0 where the derivatives have the structure of ``diff``; n where they
            are the n-th derivatives of each leaf of ``y``.
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
            ys, tree = _flatten(outcome.y)
            rows = zip(outcome.derivatives, ys, strict=True)
            each = [self._row(outcome, row, y, ()) for row, y in rows]
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
        transform = _of_numbers(self._transform) if self._levels else self._transform

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
                    check_loss(y)
                    y = mean(y, self._mean_over)
                    warn_of_sum(y, diff[0])
                return y, (y, aux, ran.results(ran.effects.written))

            derivatives, (y, aux, values) = transform(pure)(diff)
            # The written Variables leave through `aux`: their set need not be known
            # beforehand, so one run is always enough.
            out = Outcome(targets, derivatives, y, aux, diff)
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
            return unpack(Outcome(targets, derivatives, *self._split(ran.out), diff))
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

    def arranged(self, outcome: Outcome, diff: PyTree) -> Any:
        """Put derivatives by ``diff`` into the structure of the table of `grad`."""
        by_variables, by_args = diff
        by_args = unpack(by_args)
        single = isinstance(self._argnums, int)
        by_args = by_args[0] if single else tuple(by_args)
        if outcome.targets is None:
            return by_args
        if self._argnums is None:
            return outcome.targets.arrange(by_variables)
        return outcome.targets.arrange(by_variables), by_args

    def _row(self, outcome: Outcome, row: list, y: PyTree, by: tuple) -> Any:
        """Arrange the derivatives of one result; each has the unit of its quotient.

        Args:
            outcome: of the run.
            row: a number for each input, or, of higher derivatives, a row for each.
            y: the result.
            by: the inputs that the rows around are derivatives by.
        """
        inputs, tree = _flatten(outcome.diff)
        parts = [
            quotient(part, y, (*by, x))
            if len(by) == self._levels - 1
            else self._row(outcome, part, y, (*by, x))
            for part, x in zip(row, inputs, strict=True)
        ]
        return self.arranged(outcome, jax.tree.unflatten(tree, parts))


def _flatten(tree: PyTree) -> tuple[list[Any], Any]:
    return jax.tree.flatten(tree, is_leaf=is_quantity)


def _of_numbers(transform: Callable) -> Callable:
    """Return a transform for functions from list to list of the numbers in two trees.

    JAX would give a matrix the structure of a quantity inside of a quantity.
    """

    def of(pure: Callable) -> Callable:
        def derivatives(diff: Diff):
            inputs, tree = _flatten(diff)

            def on_numbers(numbers: list[Any]):
                pairs = zip(inputs, numbers, strict=True)
                filled = [
                    with_mantissa(x, n) if is_quantity(x) else n for x, n in pairs
                ]
                y, rest = pure(jax.tree.unflatten(tree, filled))
                return jax.tree.leaves(y), rest

            return transform(on_numbers)(jax.tree.leaves(inputs))

        return derivatives

    return of


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
