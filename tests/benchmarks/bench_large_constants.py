# SPDX-License-Identifier: Apache-2.0
"""A step whose connectivity is a plain attribute, against hand-written JAX."""

import time

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from .timing import interleaved, row

CASES = ((20_000, 0.5), (100_000, 0.4))
INPUTS = 100
STEPS = 10


class Net(bo.Node):
    """As everybody writes it: arrays in attributes."""

    def __init__(self, index, weight):
        self.v = bo.Variable(jnp.ones(len(index)))
        self.index, self.weight = jnp.asarray(index), jnp.asarray(weight)

    def step(self):
        drive = (self.v.value[self.index] * self.weight).sum(1)
        self.v.value = 0.9 * self.v + 1e-3 * drive


def by_hand(index, weight):
    """Return the same program with explicit state, the arrays in its closure."""
    index, weight = jnp.asarray(index), jnp.asarray(weight)

    def step(v, _):
        return 0.9 * v + 1e-3 * (v[index] * weight).sum(1), None

    return jax.jit(
        lambda v: jax.lax.scan(step, v, None, length=STEPS)[0], donate_argnums=0
    )


def first_call(function):
    """Return the seconds of the first call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def case(size: int, required: float):
    """Return the rows of one size: a step, and the first call."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, size, (size, INPUTS)).astype(np.int32)
    weight = rng.random((size, INPUTS), dtype=np.float32)
    net = Net(index, weight)
    run = bo.jit(lambda: bo.for_loop(net.step, length=STEPS))
    compiled, held = by_hand(index, weight), [jnp.ones(size)]

    def ours():
        run()
        jax.block_until_ready(net.v.value)

    def reference():
        held[0] = jax.block_until_ready(compiled(held[0]))

    firsts = first_call(ours), first_call(reference)
    np.testing.assert_allclose(net.v.value, held[0], rtol=1e-5)
    times = interleaved(ours, reference, 9)
    what = f"{size:,} x {INPUTS} from attributes / hand-written, in its closure"
    return [
        row(f"step, {what}", *times, required),
        row(f"first call, {what}", *firsts, firsts[0] / firsts[1], 0.5),
    ]


def main():
    """Return the rows of this benchmark."""
    return [line for size, required in CASES for line in case(size, required)]
