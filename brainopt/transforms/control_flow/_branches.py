# SPDX-License-Identifier: Apache-2.0
"""Branches over Variables: cond, switch, ifelse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp

from ..._compat import config
from ..._typing import ArrayLike, PyTree
from ...errors import message
from ...runtime import Effects
from .._lift import DiscoveryRun, Run, merge, run_directly, run_to_fixed_point
from .._packed import as_operands, held, pack
from .._records import check_branches
from .._reuse import reuse

Out = TypeVar("Out")
Other = TypeVar("Other")


def _branch(
    choose: Callable[[Sequence[Callable], Any], Any],
    branches: Sequence[Callable],
    operands: tuple[Any, ...],
) -> Any:
    """Run one of ``branches``; a Variable written in any of them is threaded in all.

    Args:
        choose: ``(pure branches, operands) -> result`` by a JAX primitive.
        branches: functions of ``operands``.
        operands: their arguments, packed.
    """

    def learned(seen: Sequence[Effects]) -> Effects:
        return Effects(merge(*seen).written, [Effects((), s.inner) for s in seen])

    def discover() -> tuple[Effects, Any]:
        seen: list[Effects] = []
        shapes = []
        for function in branches:

            def abstract(*xs, function: Callable = function):
                run = DiscoveryRun(function, xs)
                seen.append(run.effects)
                return run.out

            shapes.append(jax.eval_shape(abstract, *operands))
        check_branches(shapes)
        return learned(seen), shapes[0]

    def attempt(effects: Effects):
        seen = [Effects()] * len(branches)
        # By position: the effects inside a branch belong to that branch.
        hints = effects.inner if len(effects.inner) == len(branches) else seen

        def pure(i: int):
            def run_branch(*xs):
                run = Run(branches[i], xs, effects=hints[i])
                seen[i] = run.effects
                # All branches return the same Variables; one that does not write a
                # Variable returns its outer value.
                return run.out, run.results(effects.written)

            return run_branch

        out, values = choose([pure(i) for i in range(len(branches))], operands)
        return (out, effects.written, values), learned(seen)

    return run_to_fixed_point(discover, attempt)


@overload
def cond(
    pred: ArrayLike,
    true_fun: Callable[..., Out],
    false_fun: Callable[..., Other],
    operands: PyTree = (),
) -> Out | Other: ...


@overload
def cond(
    pred: ArrayLike, true_fun: PyTree, false_fun: PyTree, operands: PyTree = ()
) -> Any: ...


def cond(
    pred: ArrayLike, true_fun: PyTree, false_fun: PyTree, operands: PyTree = ()
) -> Any:
    """Run ``true_fun`` or ``false_fun``, by the value of ``pred``.

    Args:
        pred: a scalar; true where it is not zero.
        true_fun: a function of the operands, or a constant to return.
        false_fun: the same for a false ``pred``; both return equal structures.
        operands: one operand, or a tuple of them.

    Example:
        >>> import brainopt as bo
        >>> spikes = bo.Variable(jnp.array(0))
        >>> def fire():
        ...     spikes.value += 1
        >>> bo.cond(True, fire, None)
        >>> int(spikes)
        1
    """
    return _reused(_cond, [true_fun, false_fun], pred, operands)


def _cond(
    functions: Sequence[Callable], args: tuple, *, given: tuple[bool, ...]
) -> Any:
    pred, operands, constants = args

    _check_scalar("pred", pred)

    def choose(branches: Sequence[Callable], operands: tuple):
        return jax.lax.cond(jnp.reshape(pred, ()) != 0, *branches, *operands)

    branches = _filled(functions, constants, given)
    if config.jax_disable_jit and (holds := _known(bool, pred)) is not None:
        return run_directly(branches[0 if holds else 1], operands)
    return _branch(choose, branches, operands)


@overload
def switch(
    index: ArrayLike, branches: Sequence[Callable[..., Out]], operands: PyTree = ()
) -> Out: ...


@overload
def switch(
    index: ArrayLike, branches: Sequence[PyTree], operands: PyTree = ()
) -> Any: ...


def switch(index: ArrayLike, branches: Sequence[PyTree], operands: PyTree = ()) -> Any:
    """Run the branch that ``index`` counts, clamped to the first and the last.

    Args:
        index: a scalar integer.
        branches: functions of the operands, or constants to return; all return equal
            structures.
        operands: one operand, or a tuple of them.

    Example:
        >>> import brainopt as bo
        >>> int(bo.switch(1, [10, lambda: 20, 30]))
        20
    """
    if not branches:
        raise ValueError(message("switch needs at least one branch."))
    return _reused(_switch, branches, index, operands)


def _switch(
    functions: Sequence[Callable], args: tuple, *, given: tuple[bool, ...]
) -> Any:
    index, operands, constants = args

    _check_scalar("index", index, integer=True)

    def choose(branches: Sequence[Callable], operands: tuple):
        return jax.lax.switch(jnp.reshape(index, ()), branches, *operands)

    branches = _filled(functions, constants, given)
    if config.jax_disable_jit and (place := _known(int, index)) is not None:
        place = max(0, min(place, len(branches) - 1))
        return run_directly(branches[place], operands)
    return _branch(choose, branches, operands)


Conditions: TypeAlias = ArrayLike | Sequence[ArrayLike]


@overload
def ifelse(
    conditions: Conditions,
    branches: Sequence[Callable[..., Out]],
    operands: PyTree = (),
) -> Out: ...


@overload
def ifelse(
    conditions: Conditions, branches: Sequence[PyTree], operands: PyTree = ()
) -> Any: ...


def ifelse(
    conditions: Conditions, branches: Sequence[PyTree], operands: PyTree = ()
) -> Any:
    """Run the branch of the first condition that is true: if, elif, …, else.

    Args:
        conditions: scalars; the first that is not zero chooses its branch.
        branches: one function of the operands (or constant to return) for each
            condition, and one more for the case that all are false.
        operands: one operand, or a tuple of them.

    Example:
        >>> import brainopt as bo
        >>> a = 7
        >>> int(bo.ifelse([a > 10, a > 5, a > 0], [3, lambda: 2, 1, 0]))
        2
    """
    given: Any = pack(conditions)
    given = given if isinstance(given, tuple | list) else [given]
    if len(branches) != len(given) + 1:
        raise ValueError(
            message(
                f"{len(branches)} branches for {len(given)} conditions.",
                help="one branch for each condition and one for the case that none "
                "is true.",
            )
        )
    for i, condition in enumerate(given):
        _check_scalar(f"conditions[{i}]", condition)
    holds = [jnp.asarray(c).reshape(()) != 0 for c in given]
    # `argmax` gives the first of the largest, that is the first True; the True at the
    # end is the last branch, "else".
    return switch(jnp.argmax(jnp.stack([*holds, jnp.array(True)])), branches, operands)


def _check_scalar(name: str, value: Any, integer: bool = False) -> None:
    """Raise TypeError unless a branch can be chosen by ``value``."""
    dtype = getattr(value, "dtype", None)
    if dtype is None and isinstance(value, bool | int | float):
        dtype = jnp.asarray(value).dtype
    kinds = (jnp.integer,) if integer else (jnp.bool_, jnp.integer, jnp.floating)
    fits = dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in kinds)
    if not fits or jnp.size(value) != 1:
        what = f"{dtype} {jnp.shape(value)}" if dtype is not None else repr(value)
        kind = "integer" if integer else "boolean or real number"
        raise TypeError(
            message(
                f"{name} is {what}, not a scalar {kind}.",
                help="reduce it to one value, as by `jnp.any(x)`.",
            )
        )


def _known(kind: Callable, value: Any) -> Any:
    """Return ``kind(value)``, or None inside a transform that traces even so."""
    # Under `jax.disable_jit`, `vmap` still traces; then JAX has to branch.
    try:
        return kind(value)
    except jax.errors.ConcretizationTypeError:
        return None


def _reused(road: Callable, branches: Sequence[Any], choice: Any, operands: Any) -> Any:
    """Run a branch; the constants among the branches are traced as arguments."""
    functions = [branch for branch in branches if callable(branch)]
    # Inputs, as otherwise each new number would be another program.
    constants = tuple(pack(branch) for branch in branches if not callable(branch))
    args = pack(choice), as_operands(operands, held), constants
    return reuse(road, functions, args, given=tuple(map(callable, branches)))


def _filled(
    functions: Sequence[Callable], constants: Sequence[Any], given: Sequence[bool]
) -> list[Callable]:
    """Return a function for each branch, in order."""
    remaining, values = iter(functions), iter(constants)
    return [next(remaining) if known else _constant(next(values)) for known in given]


def _constant(value: Any) -> Callable:
    return lambda *_: value
