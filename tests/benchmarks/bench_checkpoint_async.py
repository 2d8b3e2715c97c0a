# SPDX-License-Identifier: Apache-2.0
"""How much a save in the background slows the training beside it.

Steps are counted from the call of ``save``, its snapshot included, until the file is
durable; then for as long without a save. Many such pairs give one median.

The step that has a bar is the time loop of a recurrent network, as simulations have
it. XLA runs such a loop on one core, so a second one is free to write the file; nothing
can be written for free where every core computes, and the last row shows that case.

Run with: ``python -m tests.benchmarks.bench_checkpoint_async [pairs]``.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

from brainopt import checkpoint

from .timing import row, show

PAIRS = 12
REQUIRED = 1.05
MEGABYTES = 500


def loop_step():
    """Return a step on one core: 200 time steps of 128 rate neurons."""

    def run(w, x):
        def tick(h, _):
            return jnp.tanh(w @ h + x), None

        return jax.lax.scan(tick, x, None, length=200)[0].sum()

    @jax.jit
    def step(w, x):
        return w - 1e-3 * jax.grad(run)(w, x)

    return step, (jnp.eye(128) * 0.1, jnp.linspace(0.0, 1.0, 128))


def matmul_step():
    """Return a step that XLA spreads over all cores."""
    return jax.jit(lambda w, x: w - 1e-3 * jnp.tanh(x @ w)), (jnp.ones((384, 384)),) * 2


def seconds_a_step(step, state, goes_on):
    """Count steps while ``goes_on()``; return seconds for one, and all of them."""
    w, x = state
    start, count = time.perf_counter(), 0
    while goes_on():
        w = jax.block_until_ready(step(w, x))
        count += 1
    seconds = time.perf_counter() - start
    return seconds / max(count, 1), seconds


class Sleeper:
    """A saver that saves nothing: with it, the measure shows its own noise."""

    def save(self, path, tree):
        self._end = time.perf_counter() + 0.5

    @property
    def saving(self):
        return time.perf_counter() < self._end

    def wait(self):
        pass


def pair(saver, path, tree, step, state):
    """Time steps beside a save, then for as long alone."""
    start = time.perf_counter()
    saver.save(path, tree)
    snapshot = time.perf_counter() - start
    beside, seconds = seconds_a_step(step, state, lambda: saver.saving)
    saver.wait()
    # The snapshot is time in which no step was done.
    beside *= 1 + snapshot / seconds
    end = time.perf_counter() + seconds
    alone, _ = seconds_a_step(step, state, lambda: time.perf_counter() < end)
    return beside, alone


def training_row(name, saver, made, folder, pairs, required=float("inf")):
    """Compare steps beside saves of 500 MB with steps alone."""
    step, state = made
    count = (MEGABYTES << 20) // 4 // 10
    tree = {f"slot{i}": jnp.ones(count) for i in range(10)}
    path = os.path.join(folder, "async")
    pair(saver, path, tree, step, state)
    times = [pair(saver, path, tree, step, state) for _ in range(pairs)]
    return row(
        name,
        statistics.median(beside for beside, _ in times),
        statistics.median(alone for _, alone in times),
        statistics.median(beside / alone for beside, alone in times),
        required,
    )


def main(pairs=PAIRS):
    """Return the rows of both steps."""
    folder = tempfile.mkdtemp(prefix="bench-checkpoint-")
    name = f"a step beside a {MEGABYTES} MiB save / alone, "
    measures = (
        ("one core busy", checkpoint.AsyncSaver(), loop_step(), REQUIRED),
        ("all cores busy", checkpoint.AsyncSaver(), matmul_step()),
        ("without any save: noise", Sleeper(), loop_step()),
    )
    try:
        return [
            training_row(name + what, saver, made, folder, pairs, *required)
            for what, saver, made, *required in measures
        ]
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    show(main(*map(int, sys.argv[1:])))
