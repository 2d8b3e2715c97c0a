# SPDX-License-Identifier: Apache-2.0
"""Loops over Variables: scan and for_loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..core._trace import Lesson
from ._lift import Run, as_operands, commit, merge, plain, read, run_directly, settle


def scan(
    body_fun: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    operands: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    remat: bool = False,
) -> tuple[Any, Any]:
    """Loop over the leading axis of ``operands`` with a carry, as `jax.lax.scan`.

    Variables that the body writes are carried from one iteration to the next.

    Args:
        body_fun: ``(carry, x) -> (carry, y)``.
        init: the first carry.
        operands: arrays of shape ``(length, …)`` in any pytree, or None.
        length: number of iterations, needed where ``operands`` is None.
        reverse: run from the last index to the first.
        unroll: iterations inlined into one round of the compiled loop.
        remat: recompute the body in the backward pass instead of storing its
            intermediate values.

    Returns:
        The last carry, and the ``y`` stacked along a new leading axis.
    """
    init, operands = plain(init), plain(operands)
    if jax.config.jax_disable_jit:
        loop = functools.partial(_python_loop, body_fun, length=length, reverse=reverse)
        return run_directly(loop, (init, operands))
    first = jax.tree.map(_first, operands)

    def discover() -> Lesson:
        seen: list[Lesson] = []

        def abstract(carry, x):
            run = Run(body_fun, (carry, x))
            seen[:] = [run.lesson]
            return run.out

        jax.eval_shape(abstract, init, first)
        return seen[0]

    def attempt(lesson: Lesson):
        seen: list[Lesson] = []

        def pure(carry, x):
            values, carry = carry
            bindings = zip(lesson.written, values, strict=True)
            run = Run(body_fun, (carry, x), bindings, lesson)
            seen.append(run.lesson)
            carry, y = run.out
            return (run.results(lesson.written), carry), y

        body = jax.checkpoint(pure, prevent_cse=False) if remat else pure
        start = tuple(map(read, lesson.written)), init
        (values, carry), ys = jax.lax.scan(
            body, start, operands, length, reverse, unroll
        )
        return (lesson.written, values, carry, ys), _joined(lesson, seen)

    written, values, carry, ys = settle(discover, attempt)
    commit(written, values)
    return carry, ys


def for_loop(
    body_fun: Callable,
    operands: Any = (),
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    remat: bool = False,
    jit: bool = True,
) -> Any:
    """Call ``body_fun`` for each element along the leading axis of ``operands``.

    Args:
        body_fun: takes one slice of each operand and returns any pytree of arrays, or
            nothing.
        operands: one pytree of arrays of shape ``(length, …)``, or a tuple of them.
        length: number of iterations, needed where there are no operands.
        reverse: run from the last index to the first.
        unroll: iterations inlined into one round of the compiled loop.
        remat: recompute the body in the backward pass.
        jit: False runs a Python loop, for debugging.

    Returns:
        The results stacked along a new leading axis.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> total = bo.Variable(0.0)
        >>> def add(x):
        ...     total.value += x
        ...     return total.value
        >>> bo.for_loop(add, jnp.arange(4.0)).tolist()
        [0.0, 1.0, 3.0, 6.0]
    """
    operands = as_operands(operands)

    def body(_, xs):
        return None, body_fun(*xs)

    if jit:
        return scan(body, None, operands, length, reverse, unroll, remat)[1]
    with jax.disable_jit():
        return scan(body, None, operands, length, reverse, unroll, remat)[1]


def _python_loop(body_fun, carry, operands, *, length, reverse):
    leaves = jax.tree.leaves(operands)
    count = len(leaves[0]) if leaves else length
    ys = []
    for i in reversed(range(count)) if reverse else range(count):
        carry, y = body_fun(carry, jax.tree.map(lambda x, i=i: x[i], operands))
        ys.append(plain(y))
    if reverse:
        ys.reverse()
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys) if ys else None


def _first(x: Any) -> Any:
    x = jnp.asarray(x)
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)


def _joined(lesson: Lesson, seen: list[Lesson]) -> Lesson:
    if not seen:
        return lesson
    return Lesson(merge(*seen).written, seen[-1].inner)
