# SPDX-License-Identifier: Apache-2.0
"""Backpropagation through 100,000 steps, with and without stored checkpoints.

Run with: ``python -m tests.benchmarks.bench_long_loops``.
"""

import math

import jax
import jax.numpy as jnp

import brainopt as bo

from .timing import interleaved, row, show

STEPS, WIDTH = 100_000, 64
TIME_REQUIRED, MEMORY_REQUIRED, BY_HAND_REQUIRED = 1.3, 0.1, 1.05


def rate(w, v):
    """One step of leaky rate units."""
    return 0.9 * v + 0.1 * jnp.tanh(v @ w + 1)


def weights():
    """Weights of the units, the same for all."""
    return jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH


def ours(**options):
    """The gradient of a loop of ours."""
    w, v = bo.TrainVar(weights()), bo.Variable(jnp.zeros(WIDTH))

    def body():
        v.value = rate(w.value, v.value)

    def loss():
        v.value = jnp.zeros(WIDTH)
        bo.for_loop(body, length=STEPS, **options)
        return v.value.sum()

    return bo.jit(bo.grad(loss, w))


def by_hand():
    """The gradient of two nested scans, of which the inner one is recomputed."""
    inner = math.isqrt(STEPS)
    outer, rest = divmod(STEPS, inner)

    def loss(w):
        def step(v, _):
            return rate(w, v), None

        @jax.checkpoint
        def block(v, _):
            return jax.lax.scan(step, v, length=inner)[0], None

        v, _ = jax.lax.scan(block, jnp.zeros(WIDTH), length=outer)
        return jax.lax.scan(step, v, length=rest)[0].sum()

    return jax.jit(jax.grad(loss)), weights()


def _bytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes


def main():
    """Return the rows of all measurements."""
    plain, stored, (hand, w) = ours(), ours(checkpoint_every=True), by_hand()
    name = f"BPTT through {STEPS:,} steps, checkpoint_every / "

    def act():
        jax.block_until_ready(stored())

    times = interleaved(act, lambda: jax.block_until_ready(plain()), repeats=9)
    beside = interleaved(act, lambda: jax.block_until_ready(hand(w)), repeats=9)
    sizes = [_bytes(f.lower().compile()) for f in (stored, plain)]
    sizes.append(_bytes(hand.lower(w).compile()))
    ratios = sizes[0] / sizes[1], sizes[0] / sizes[2]
    return [
        row(f"{name}plain", *times, TIME_REQUIRED),
        row(f"{name}jax.checkpoint by hand", *beside, BY_HAND_REQUIRED),
        row(f"{name}plain, bytes", *sizes[:2], ratios[0], MEMORY_REQUIRED, unit="B"),
        row(
            f"{name}jax.checkpoint by hand, bytes",
            sizes[0],
            sizes[2],
            ratios[1],
            BY_HAND_REQUIRED,
            unit="B",
        ),
    ]


if __name__ == "__main__":
    show(main())
