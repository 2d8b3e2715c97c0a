# SPDX-License-Identifier: Apache-2.0
"""Loops that end when a condition fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..._compat import config
from ..._typing import ArrayLike, PyTree
from ...core import is_weak, keeps_kind
from ...errors import TraceContextError, message
from ...runtime import Effects
from .._lift import DiscoveryRun, Run, read, run_directly, run_to_fixed_point
from .._packed import as_operands, pack, unpack
from .._records import collected, refuse_records
from .._reuse import reuse
from ._branches import cond
from ._loops import check_carried, joined, scan

_ORDER = "the order is while_loop(body_fun, cond_fun, operands), as in BrainPy"
_UNKNOWN = (
    "how many there will be is not known; return the last values, or use `bo.for_loop`."
)


def while_loop(
    body_fun: Callable[..., PyTree],
    cond_fun: Callable[..., ArrayLike],
    operands: PyTree = (),
) -> Any:
    """Call ``body_fun`` as long as ``cond_fun`` is true.

    Both may read Variables; what the body writes is carried from one iteration to the
    next.

    Args:
        body_fun: takes the operands and returns new ones of the same shapes; None
            returns them unchanged.
        cond_fun: takes the operands and returns a scalar; true where it is not zero.
            It may not write Variables.
        operands: one operand, or a tuple of them.

    Returns:
        The last operands: a tuple where a tuple was given.

    Raises:
        TraceContextError: the condition writes a Variable.
        TypeError: the condition is no scalar, or the body changes the shapes or
            dtypes of its operands.

    Example:
        >>> import brainopt as bo
        >>> doublings = bo.Variable(jnp.array(0))
        >>> def body(x):
        ...     doublings.value += 1
        ...     return x * 2
        >>> float(bo.while_loop(body, lambda x: x < 100, 1.0)), int(doublings)
        (128.0, 7)

    Differs: brainpy returns a tuple for a single operand too.
    """
    many = isinstance(operands, tuple)
    out = reuse(_while_loop, (body_fun, cond_fun), as_operands(operands), many=many)
    return out if many else out[0]


def _while_loop(
    functions: Sequence[Callable], start: tuple[Any, ...], *, many: bool
) -> tuple[Any, ...]:
    body_fun, cond_fun = functions

    def following(out: PyTree, before: tuple) -> tuple:
        out = refuse_records(out, "A while_loop", _UNKNOWN)
        if out is None:
            return before
        return tuple(out) if many and isinstance(out, tuple | list) else (out,)

    if config.jax_disable_jit:

        def loop(*operands):
            while _scalar(_condition(cond_fun, operands).out):
                out = pack(body_fun(*unpack(operands)))
                operands = _like(operands, following(out, operands))
            return operands

        # Inside bo.vmap or bo.remat, which trace even so, the condition is not known.
        with contextlib.suppress(jax.errors.ConcretizationTypeError):
            return run_directly(loop, start)

    def discover() -> tuple[Effects, Any]:
        seen: list[Effects] = []

        def abstract(*operands):
            run = DiscoveryRun(body_fun, operands)
            seen[:] = [run.effects]
            return refuse_records(run.out, "A while_loop", _UNKNOWN)

        # The condition may not write, so the body alone is looked at.
        jax.eval_shape(abstract, *start)
        shapes = jax.eval_shape(lambda x: x, start)
        return Effects(seen[0].written, [Effects((), seen[0].inner)]), shapes

    def attempt(effects: Effects):
        # Body and condition are runs of their own, each with effects of its own inside.
        hints = effects.inner + [None] * (2 - len(effects.inner))
        bodies: list[Effects] = []
        conditions: list[Effects] = []

        def body(state: tuple):
            values, operands = state
            bindings = zip(effects.written, values, strict=True)
            run = Run(body_fun, operands, bindings, hints[0])
            bodies.append(run.effects)
            results = run.results(effects.written)
            check_carried(effects.written, values, results)
            return results, _like(operands, following(run.out, operands))

        def condition(state: tuple):
            values, operands = state
            bindings = zip(effects.written, values, strict=True)
            run = _condition(cond_fun, operands, bindings, hints[1])
            conditions.append(run.effects)
            return _scalar(run.out) != 0

        # One carry for both: the condition has to see what the last iteration wrote.
        first = tuple(map(read, effects.written)), start
        values, operands = jax.lax.while_loop(condition, body, first)
        seen = joined(effects, bodies)
        inner = [Effects((), seen.inner), Effects((), conditions[-1].inner)]
        return (operands, effects.written, values), Effects(seen.written, inner)

    return run_to_fixed_point(discover, attempt)


def bounded_while_loop(
    body_fun: Callable[..., PyTree],
    cond_fun: Callable[..., ArrayLike],
    operands: PyTree = (),
    *,
    max_steps: int,
    checkpoint_every: int | bool | None = None,
) -> Any:
    """Call ``body_fun`` as long as ``cond_fun`` is true, ``max_steps`` times at most.

    As `while_loop`, but reverse mode can differentiate it, since its length is known:
    it is a `scan` whose iterations do nothing once the condition fails. An iteration
    that does nothing costs as much as a `cond`; inside `vmap` it costs the body.

    Args:
        body_fun: takes the operands and returns new ones of the same shapes; None
            returns them unchanged.
        cond_fun: takes the operands and returns a scalar; true where it is not zero.
        operands: one operand, or a tuple of them.
        max_steps: in [1, inf). Where the loop reaches it, ``cond_fun`` of the result
            is still true.
        checkpoint_every: as for `scan`.

    Returns:
        The last operands: a tuple where a tuple was given.

    Raises:
        TypeError: the condition is no scalar, or the body changes the shapes or
            dtypes of its operands.
        ValueError: ``max_steps`` is no positive integer.

    Example:
        >>> import brainopt as bo
        >>> def halved(x):
        ...     return bo.bounded_while_loop(
        ...         lambda x: x / 2, lambda x: x > 1, x, max_steps=10)
        >>> float(halved(5.0)), float(bo.grad(halved, argnums=0)(5.0))
        (0.625, 0.125)
    """
    if not isinstance(max_steps, int) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(
            message(f"max_steps is a positive integer, not {max_steps!r}.")
        )
    many = isinstance(operands, tuple)
    out = reuse(
        _bounded_while_loop,
        (body_fun, cond_fun),
        as_operands(operands),
        many=many,
        max_steps=max_steps,
        checkpoint_every=checkpoint_every,
    )
    return out if many else out[0]


def _bounded_while_loop(
    functions: Sequence[Callable],
    start: tuple[Any, ...],
    *,
    many: bool,
    max_steps: int,
    checkpoint_every: int | bool | None,
) -> tuple[Any, ...]:
    body_fun, cond_fun = functions

    def body(*before: Any) -> tuple:
        out = collected(body_fun, *before)
        out = refuse_records(out, "A bounded_while_loop", _UNKNOWN)
        after = before if out is None else tuple(out) if many else (out,)
        return unpack(_like(pack(before), pack(after)))

    # The length is fixed, so that reverse mode can store a state for each iteration;
    # past the end of the loop the state is passed on as it is.
    def one(state: tuple, _: PyTree) -> tuple[tuple, None]:
        going = _scalar(_condition(cond_fun, state).out)
        return cond(going, body, lambda *same: same, pack(state)), None

    return scan(one, start, length=max_steps, checkpoint_every=checkpoint_every)[0]


def _condition(cond_fun, operands, bindings=(), hint=None) -> Run:
    run = Run(cond_fun, operands, bindings, hint)
    refuse_records(run.out, "The condition of a while_loop", _UNKNOWN)
    if run.effects.written:
        raise TraceContextError(
            message(
                "The condition of a while_loop writes Variables:",
                [variable.label for variable in run.effects.written],
                "write them in the body; a condition can only read.",
            )
        )
    return run


def _scalar(out: PyTree) -> jax.Array:
    value = jnp.asarray(out)
    if value.size != 1 or jnp.iscomplexobj(value):
        raise TypeError(
            message(
                f"The condition of a while_loop returned {value.dtype} {value.shape}.",
                help=f"return one boolean or real number; {_ORDER}.",
            )
        )
    return value.reshape(())


def _like(old: Any, new: Any) -> Any:
    # A Python number as operand is weakly typed, and so may its successor be not.
    def one(a: PyTree, b: PyTree):
        a, b = jnp.asarray(a), jnp.asarray(b)
        if a.shape != b.shape or (a.dtype == bool) != (b.dtype == bool):
            changed.append(f"{a.dtype} {a.shape} before, {b.dtype} {b.shape} after")
        return b.astype(a.dtype) if is_weak(b) and keeps_kind(b.dtype, a.dtype) else b

    if jax.tree.structure(old) != jax.tree.structure(new):
        return new
    changed: list[str] = []
    like = jax.tree.map(one, old, new)
    if changed:
        raise TypeError(
            message(
                "The body of a while_loop changes its operands:",
                changed,
                f"keep their shapes and dtypes; {_ORDER}.",
            )
        )
    return like
