# SPDX-License-Identifier: Apache-2.0
"""Loops over arrays: scan and for_loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ..._compat import config
from ..._dtypes import is_numeric
from ..._typing import PyTree
from ...errors import VariableError, message
from ...runtime import Cell, Effects
from .._lift import DiscoveryRun, Run, merge, read, run_directly, run_to_fixed_point
from .._packed import as_operands, pack, unpack
from .._records import collected, parted, recording, rejoined
from .._reuse import reuse
from ._progress import Progress
from ._rounds import looped

Carry = TypeVar("Carry")
Y = TypeVar("Y")


def scan(
    body_fun: Callable[[PyTree, PyTree], tuple[Carry, Y]],
    init: PyTree,
    operands: PyTree = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    remat: bool = False,
    progress_bar: bool | int = False,
    *,
    length: int | None = None,
    checkpoint_every: int | bool | None = None,
) -> tuple[Carry, Y]:
    """Loop over the leading axis of ``operands`` with a carry, as `jax.lax.scan`.

    Variables that the body writes are carried from one iteration to the next.

    Args:
        body_fun: ``(carry, x) -> (carry, y)``.
        init: the first carry.
        operands: arrays of shape ``(length, …)`` in any pytree, or None.
        reverse: run from the last index to the first.
        unroll: iterations inlined into one round of the compiled loop.
        remat: recompute the body in the backward pass instead of storing its
            intermediate values.
        progress_bar: show in a terminal or notebook how far the loop is; a number is
            that of the iterations between two drawings.
        length: number of iterations, needed where ``operands`` is None.
        checkpoint_every: store the state every so many iterations only, and recompute
            what lies between in the backward pass; True for √length, which needs
            memory for about 2 √length states.

    Returns:
        The last carry, and the ``y`` stacked along a new leading axis.

    Example:
        >>> import brainopt as bo
        >>> bo.scan(lambda c, x: (c + x, c), 0.0, jnp.arange(3.0))[1].tolist()
        [0.0, 0.0, 1.0]
    """
    return reuse(
        _scan,
        (body_fun,),
        (pack(init), pack(operands)),
        reverse=reverse,
        unroll=unroll,
        remat=remat,
        progress_bar=progress_bar,
        length=length,
        checkpoint_every=checkpoint_every,
    )


def _scan(
    functions: Sequence[Callable],
    args: tuple[Any, Any],
    *,
    reverse: bool,
    unroll: int | bool,
    remat: bool,
    progress_bar: bool | int,
    length: int | None,
    checkpoint_every: int | bool | None,
) -> tuple[Any, Any]:
    (body_fun,), (init, operands) = functions, args
    _check_flag(progress_bar)
    count = _count(operands, length)
    progress = None
    if progress_bar:
        interval = None if progress_bar is True else progress_bar
        progress = Progress(count, _name(body_fun), interval)
    first = jax.tree.map(_first, operands)
    if config.jax_disable_jit and count:
        loop = functools.partial(_python_loop, body_fun, count, reverse, progress)
        return run_directly(loop, (init, operands))
    every = _every(checkpoint_every, count)

    # One abstract iteration finds what the body writes, at the cost of one trace.
    def discover() -> tuple[Effects, Any]:
        seen: list[Effects] = []

        def abstract(carry: PyTree, x: PyTree):
            run = DiscoveryRun(body_fun, (carry, x))
            seen[:] = [run.effects]
            return _pair(run.out)

        carry, y = jax.eval_shape(abstract, init, first)
        return seen[0], (carry, _stacked(y, count))

    def attempt(effects: Effects):
        seen: list[Effects] = []

        def pure(carry: PyTree, x: PyTree):
            values, carry = carry
            bindings = zip(effects.written, values, strict=True)
            run = Run(body_fun, (carry, x), bindings, effects)
            # JAX traces a body again where the carry changes its weak type.
            seen.append(run.effects)
            carry, y = _pair(run.out)
            results = run.results(effects.written)
            check_carried(effects.written, values, results)
            return (results, carry), y

        # Inside a scan XLA cannot merge the recomputation with the forward pass, so
        # the barriers that prevent that may go.
        body = jax.checkpoint(pure, prevent_cse=False) if remat else pure
        start = tuple(map(read, effects.written)), init
        loop = looped(body, length, reverse, unroll, every, progress)
        (values, carry), ys = loop(start, operands)
        return ((carry, ys), effects.written, values), joined(effects, seen)

    # JAX refuses a scan without iterations under `jax.disable_jit`.
    if not count and config.jax_disable_jit:
        ys = discover()[1][1]
        ys = jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), ys)
        return unpack((init, ys))
    return run_to_fixed_point(discover, attempt)


def for_loop(
    body_fun: Callable[..., Y],
    operands: PyTree = (),
    reverse: bool = False,
    unroll: int | bool = 1,
    jit: bool | None = True,
    progress_bar: bool | int = False,
    *,
    length: int | None = None,
    remat: bool = False,
    checkpoint_every: int | bool | None = None,
) -> Y:
    """Call ``body_fun`` for each element along the leading axis of ``operands``.

    Args:
        body_fun: takes one slice of each operand and returns any pytree of arrays, or
            nothing.
        operands: one pytree of arrays of shape ``(length, …)``, or a tuple of them.
        reverse: run from the last index to the first.
        unroll: iterations inlined into one round of the compiled loop.
        jit: False runs a Python loop, for debugging; None, brainpy's default, does not.
        progress_bar: show in a terminal or notebook how far the loop is; a number is
            that of the iterations between two drawings.
        length: number of iterations, needed where there are no operands.
        remat: recompute the body in the backward pass.
        checkpoint_every: as in `scan`.

    Returns:
        The results stacked along a new leading axis.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> total = bo.Variable(jnp.array(0.0))
        >>> def add(x):
        ...     total.value += x
        ...     return total.value
        >>> bo.for_loop(add, jnp.arange(4.0)).tolist()
        [0.0, 1.0, 3.0, 6.0]

    Differs: brainpy has ``remat`` before ``jit``; here it is keyword-only.
    """

    def loop():
        return reuse(
            _for_loop,
            (body_fun,),
            as_operands(operands),
            reverse=reverse,
            unroll=unroll,
            remat=remat,
            progress_bar=progress_bar,
            length=length,
            checkpoint_every=checkpoint_every,
        )

    if jit is None or jit:
        return loop()
    with jax.disable_jit():
        return loop()


def _for_loop(
    functions: Sequence[Callable], operands: tuple[Any, ...], **options: Any
) -> Any:
    (body_fun,) = functions

    def body(_: PyTree, xs: PyTree):
        return None, body_fun(*xs)

    body.__name__ = _name(body_fun)
    body.__wrapped__ = body_fun  # type: ignore[attr-defined]
    return _scan((body,), (None, operands), **options)[1]


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def check_carried(
    variables: tuple[Cell, ...], before: Sequence[PyTree], after: Sequence[PyTree]
) -> None:
    """Raise `VariableError` naming each Variable whose shape a loop's body changes."""
    changed = [
        f"{variable.label}: {_shapes(old)} before, {_shapes(new)} after"
        for variable, old, new in zip(variables, before, after, strict=True)
        if _shapes(old) != _shapes(new)
    ]
    if changed:
        raise VariableError(
            message(
                "One iteration of the loop changes the shape of a Variable:",
                changed,
                "give it the final batch size before the loop.",
            )
        )


def _shapes(value: Any) -> Any:
    # A quantity with shapes in the place of its numbers could not be compared.
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(value)]
    return shapes[0] if len(shapes) == 1 else shapes


def joined(effects: Effects, seen: list[Effects]) -> Effects:
    """Return the effects of all traces of one body."""
    if not seen:
        return effects
    return Effects(merge(*seen).written, seen[-1].inner)


def _python_loop(body_fun, count, reverse, progress, carry: PyTree, operands):
    ys = []
    body = functools.partial(collected, body_fun) if recording() else body_fun
    for i in reversed(range(count)) if reverse else range(count):
        x = jax.tree.map(lambda x, i=i: x[i], operands)
        carry, y = _pair(body(carry, x))
        ys.append(pack(y))
        if progress:
            progress.show(len(ys))
    if reverse:
        ys.reverse()
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)


def _pair(out: Any) -> tuple[Any, Any]:
    out, records = parted(out)
    if not isinstance(out, tuple | list) or len(out) != 2:
        found = f"{len(out)} values" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(
            message(
                f"The body of a scan returned {found}.",
                help="return the pair (carry, y); y may be None.",
            )
        )
    return out[0], rejoined(out[1], records)


def _check_flag(progress_bar: Any) -> None:
    if not isinstance(progress_bar, bool | int | None) or (progress_bar or 0) < 0:
        raise TypeError(
            message(
                f"progress_bar={progress_bar!r}.",
                help="give True, False, or the iterations between two drawings.",
            )
        )


def _count(operands: Any, length: int | None) -> int:
    found: dict[int, None] = {} if length is None else {length: None}
    leaves = jax.tree.leaves(operands)
    _check_arrays(leaves)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    found |= dict.fromkeys(shape[0] for shape in shapes if shape)
    if len(found) > 1 or not all(shapes):
        raise ValueError(
            message(
                "The operands of a loop are not all of one length:",
                [f"shape {shape}" for shape in shapes]
                + ([] if length is None else [f"length={length}"]),
                "give arrays of shape (length, …), for a list `jnp.array(list)`; what "
                "is the same in all iterations is closed over.",
            )
        )
    if not found:
        raise ValueError(message("A loop without operands needs to know its `length`."))
    return next(iter(found))


def _check_arrays(leaves: Sequence[Any]) -> None:
    if others := [x for x in leaves if not is_numeric(x)]:
        raise TypeError(
            message(
                "A loop runs over arrays, and was given:",
                sorted({f"a {type(x).__name__}" for x in others}),
                "give `jnp.arange(n)` for a range, `jnp.array(list)` for what Python "
                "iterates over.",
            )
        )


def _stacked(y: Any, count: int) -> Any:
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((count, *s.shape), s.dtype), y)


def _every(asked: int | bool | None, count: int) -> int | None:
    if asked is None or asked is False:
        return None
    if asked is True:
        return max(1, round(count**0.5))
    if asked < 1:
        raise ValueError(
            message(f"checkpoint_every={asked}.", help="give 1 or more, or True.")
        )
    return asked


def _first(x: PyTree) -> Any:
    x = jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
