# SPDX-License-Identifier: Apache-2.0
"""The same work in brainpy, where it is installed."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from .bench_transforms import NETS, Recurrent
from .hand_written import coba, coba_weights, lif_loss, lif_params
from .timing import interleaved, row


def simulation(bm, neurons: int = 4000, steps: int = 1000):
    """Return the row of a COBA network simulated forward."""
    weights, start = coba_weights(neurons), coba.initial(neurons)
    state = {bo: [bo.Variable(x) for x in start], bm: [bm.Variable(x) for x in start]}

    def update(library):
        new = coba(weights, [v.value for v in state[library]])
        for variable, value in zip(state[library], new, strict=True):
            variable.value = value
        return new[-1].sum()

    run = bo.jit(lambda: bo.for_loop(lambda: update(bo), length=steps))
    theirs = bm.jit(lambda: bm.for_loop(lambda _: update(bm), jnp.arange(steps)))

    def reset(library):
        for variable, value in zip(state[library], start, strict=True):
            variable.value = value

    def ours():
        reset(bo)
        return jax.block_until_ready(run())

    def reference():
        reset(bm)
        return jax.block_until_ready(theirs())

    np.testing.assert_array_equal(ours(), reference())
    a, b, ratio = interleaved(ours, reference, repeats=9, warmup=0)
    name = f"COBA network, {neurons} LIF, {steps} steps / brainpy"
    return row(name, a, b, ratio, 1.0)


def bptt(bm, n_in: int, n: int, steps: int, batch: int):
    """Return the row of a training step through time."""
    net = Recurrent(n_in, n, batch)
    xs = jax.random.bernoulli(jax.random.key(1), 0.3, (steps, batch, n_in))
    xs, target = xs.astype(jnp.float32), jnp.ones((batch, 2))
    w = {k: bm.TrainVar(v) for k, v in lif_params(n_in, n).items()}
    shapes = [(batch, n), (batch, n), (batch, 2)]
    state = [bm.Variable(jnp.zeros(shape)) for shape in shapes]

    def update(x):
        new = lif_loss.cell(
            {k: v.value for k, v in w.items()}, [v.value for v in state], x
        )
        for variable, value in zip(state, new, strict=True):
            variable.value = value

    def loss(xs, target):
        for variable in state:
            variable.value = jnp.zeros_like(variable.value)
        bm.for_loop(update, xs)
        return jnp.mean((state[-1].value - target) ** 2)

    gradients = {
        bo: bo.grad(net.loss, net.w, return_value=True),
        bm: bm.grad(loss, grad_vars=w, return_value=True),
    }

    def stepper(library, weights):
        def step(xs, target):
            grads, value = gradients[library](xs, target)
            for k, g in grads.items():
                weights[k].value = weights[k].value - 1e-2 * g
            return value

        return library.jit(step)

    ours, theirs = stepper(bo, net.w), stepper(bm, w)
    a, b, ratio = interleaved(
        lambda: jax.block_until_ready(ours(xs, target)),
        lambda: jax.block_until_ready(theirs(xs, target)),
        repeats=15,
        calls=1 if batch > 1 else 40,
    )
    name = f"BPTT step, LIF net {n_in}/{n}, T={steps}, batch {batch} / brainpy"
    return row(name, a, b, ratio, 1.0)


def main():
    """Return the rows, or none where brainpy is not installed."""
    if importlib.util.find_spec("brainpy") is None:
        return []
    bm = importlib.import_module("brainpy.math")
    return [simulation(bm), *(bptt(bm, *net[:4]) for net in NETS)]


if __name__ == "__main__":
    for line in main():
        print(line)
