# SPDX-License-Identifier: Apache-2.0
"""Train a brainstate network with brainopt, by its transforms and by ours.

A leaky recurrent network remembers the sign of a short pulse through a delay. Its
hidden state is made anew in each call of the loss, as brainstate models do; both ways
of training give the same numbers, and the state of the run is one file.

    pip install brainopt[brainstate]
    python examples/attach_brainstate.py
"""

import argparse
import os
import tempfile

import brainstate
import jax
import jax.numpy as jnp
from brainstate.transform import for_loop, grad, jit

import brainopt as bo

HIDDEN, DELAY, BATCH = 32, 30, 64


class Memory(brainstate.nn.Module):
    """h ← h + (tanh(W [h, u]) - h) / 5, and a linear readout."""

    def __init__(self):
        super().__init__()
        self.recurrent = brainstate.nn.Linear(HIDDEN + 1, HIDDEN)
        self.readout = brainstate.nn.Linear(HIDDEN, 1)

    def init_state(self, batch_size=None):
        self.h = brainstate.HiddenState(jnp.zeros((batch_size, HIDDEN)))

    def update(self, u):
        h = self.h.value
        drive = self.recurrent(jnp.concatenate([h, u], -1))
        self.h.value = h + (jnp.tanh(drive) - h) / 5
        return self.readout(self.h.value)


def make(seed):
    """Return a network, its loss (with the accuracy beside it) and an optimizer."""
    brainstate.random.seed(seed)
    net = Memory()

    def loss():
        # brainstate's random state is seen and saved like every other state.
        sign = jnp.where(brainstate.random.rand(BATCH, 1) < 0.5, 1.0, -1.0)
        pulse = (jnp.arange(DELAY) < 3)[:, None, None]
        noise = 0.3 * brainstate.random.randn(DELAY, BATCH, 1)
        brainstate.nn.init_all_states(net, batch_size=BATCH)
        answer = for_loop(net, pulse * sign + noise)[-1]
        return jax.nn.softplus(-answer * sign).mean(), (answer * sign > 0).mean()

    return net, loss, bo.optim.AdamW(1e-2, net, clip_norm=1.0)


def by_brainstate(net, loss, opt):
    """Return a step made of brainstate's transforms; only the optimizer is ours."""
    states = net.states(brainstate.ParamState)
    gradient = grad(loss, states, return_value=True, has_aux=True)

    @jit
    def step():
        grads, value, accuracy = gradient()
        opt.update(grads)
        return value, accuracy

    return step


def by_brainopt(net, loss, opt):
    """Return a step made of our transforms."""
    gradient = bo.grad(loss, net, return_value=True, has_aux=True)

    @bo.jit
    def step():
        grads, value, accuracy = gradient()
        opt.update(grads)
        return value, accuracy

    return step


def train(step, steps, name):
    """Return the losses, and print some of them."""
    losses = []
    for i in range(steps):
        value, accuracy = step()
        losses.append(float(value))
        if i % 25 == 0 or i == steps - 1:
            shown = f"loss {losses[-1]:.4f}  accuracy {float(accuracy):.3f}"
            print(f"{name:14} step {i + 1:4d}  {shown}")
    return losses


def main(steps=100):
    """Train both ways, save, resume; return the losses by way."""
    print(bo.attach(make(seed=0)[0]))
    losses = {
        way.__name__: train(way(*make(seed=0)), steps, way.__name__)
        for way in (by_brainstate, by_brainopt)
    }

    half = steps // 2
    net, loss, opt = make(seed=0)
    train(by_brainopt(net, loss, opt), half, "first half")
    path = os.path.join(tempfile.mkdtemp(), "run.bopt")
    bo.checkpoint.save(path, {"net": bo.attach(net), "opt": opt})

    net, loss, opt = make(seed=5)  # as after a restart, with other weights
    bo.checkpoint.restore(path, {"net": bo.attach(net), "opt": opt})
    resumed = train(by_brainopt(net, loss, opt), steps - half, "resumed")
    print("equal to the bit:", resumed == losses["by_brainopt"][half:])
    return {**losses, "resumed": resumed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    main(parser.parse_args().steps)
