# SPDX-License-Identifier: Apache-2.0
"""One long scan as rounds of shorter ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, PyTree
from ._progress import Progress

Loop = Callable[[Any, Any], tuple[Any, Any]]
"""``(carry, operands) -> (carry, ys)``."""


def looped(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    length: int | None,
    reverse: bool,
    unroll: int | bool,
    every: int | None,
    progress: Progress | None,
) -> Loop:
    """Return `jax.lax.scan` over ``body``, in rounds where something is asked for.

    Args:
        body: ``(carry, x) -> (carry, y)``.
        length: number of iterations where there are no operands.
        reverse: from the last to the first.
        unroll: iterations inlined into one.
        every: iterations between two stored states, or None.
        progress: what shows how far the loop is, or None.
    """

    def plain(carry: PyTree, operands: PyTree, length: int | None = length):
        return jax.lax.scan(body, carry, operands, length, reverse, unroll)

    loop = plain
    if every is not None:
        round_ = functools.partial(jax.checkpoint, prevent_cse=False)
        loop = _in_rounds(loop, every, length, reverse, round_)
    if progress is not None:
        loop = _in_rounds(
            loop, progress.interval, length, reverse, lambda f: f, progress
        )
    return loop


def _in_rounds(
    loop: Callable,
    size: int,
    length: int | None,
    reverse: bool,
    wrap: Callable,
    progress: Progress | None = None,
) -> Callable:
    """Return ``loop`` run over pieces of ``size`` iterations, and over the rest."""

    def run(carry: PyTree, operands: PyTree, length: Any = length):
        leaves: list[Any] = jax.tree.leaves(operands)
        # A scan needs rounds of one size, so what is left over is a loop of its own.
        rounds, rest = divmod(leaves[0].shape[0] if leaves else length, size)
        whole = rounds * size

        def finished(results: PyTree, done: Array):
            if progress is not None:
                # Without the barrier the count runs ahead of what is counted.
                results, done = jax.lax.optimization_barrier((results, done))
                jax.debug.callback(progress.show, done)
            carry, ys = results
            return (carry, done), ys

        # Each round is wrapped as a whole, so with `jax.checkpoint` only the carry
        # between two rounds is stored.
        def one_round(state: PyTree, xs: PyTree):
            carry, done = state
            results = wrap(functools.partial(loop, length=size))(carry, xs)
            return finished(results, done + size)

        def main(state: PyTree):
            xs = jax.tree.map(
                lambda x: x[:whole].reshape(rounds, size, *x.shape[1:]), operands
            )
            state, ys = jax.lax.scan(one_round, state, xs, rounds, reverse)
            return state, jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)

        def tail(state: PyTree):
            carry, done = state
            xs = jax.tree.map(lambda x: x[whole:], operands)
            results = wrap(functools.partial(loop, length=rest))(carry, xs)
            return finished(results, done + rest)

        # Without any iteration the rest still runs, to give the results their shapes.
        parts = ([main] if rounds else []) + ([tail] if rest or not rounds else [])
        results = []
        state = carry, jnp.zeros((), int)
        # Backwards the last iterations come first: the rest, then the rounds.
        for part in reversed(parts) if reverse else parts:
            state, ys = part(state)
            results.append(ys)
        if reverse:
            results.reverse()
        return state[0], jax.tree.map(lambda *ys: jnp.concatenate(ys), *results)

    return run
