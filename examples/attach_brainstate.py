# SPDX-License-Identifier: Apache-2.0
"""Train a brainstate network with brainopt, by its transforms and by ours.

A leaky recurrent network remembers the sign of a short pulse through a delay. Its
hidden state is made anew in each call of the loss, as brainstate models do; both ways
of training give the same numbers, and the state of the run is one file.

The voltage and one parameter have a unit, millivolt: the optimizer keeps it.

    pip install '.[brainstate]'
    python examples/attach_brainstate.py          # draws attach_brainstate.png
"""

import program

PARSER = program.options(__doc__, "attach_brainstate", 100, "one batch", seed=0)
program.require("brainstate", "brainstate", PARSER)

# ruff: noqa: E402
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate.transform import for_loop, grad, jit

import brainopt as bo

HIDDEN, DELAY, BATCH = 32, 30, 64


class Memory(brainstate.nn.Module):
    """v ← v + (g tanh(W [v, u]) - v) / 5 with v and g in mV, and a linear readout."""

    def __init__(self):
        super().__init__()
        self.recurrent = brainstate.nn.Linear(HIDDEN + 1, HIDDEN)
        self.readout = brainstate.nn.Linear(HIDDEN, 1)
        self.gain = brainstate.ParamState(jnp.ones(HIDDEN) * u.mV)

    def init_state(self, batch_size=None):
        self.v = brainstate.HiddenState(jnp.zeros((batch_size, HIDDEN)) * u.mV)

    def update(self, x):
        v = self.v.value
        drive = self.recurrent(jnp.concatenate([v / u.mV, x], -1))
        self.v.value = v + (self.gain.value * jnp.tanh(drive) - v) / 5
        return self.readout(self.v.value / u.mV)


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


class Run(bo.Node):
    """What a run needs to go on; brainstate's random state is part of the network."""

    def __init__(self, seed):
        net, loss, self.opt = make(seed)
        self.net = bo.attach(net)
        self.train = by_brainopt(net, loss, self.opt)


def main(argv=None):
    """Train both ways, compare, draw; return the results."""
    args = program.parse(PARSER, argv)
    step = by_brainstate(*make(args.seed))
    theirs = np.array([[float(x) for x in step()] for _ in range(args.steps)])
    run = Run(args.seed)
    print(run.net)

    def advance():
        value, accuracy = run.train()
        return {"loss": value, "accuracy": accuracy}

    history = program.train(args, run, advance, every=min(10, args.steps))
    results = {
        "first loss": float(history["loss"][0]),
        "last loss": float(history["loss"][-1]),
        "last accuracy": float(history["accuracy"][-1]),
        "largest difference of losses between the ways": float(
            np.abs(history["loss"] - theirs[:, 0]).max()
        ),
    }
    program.report(args, run, results)
    if args.figure:
        draw(history, theirs, args.figure)
    return results


def draw(history, theirs, filename):
    """Draw loss and accuracy of both ways, one over the other."""
    plt = program.pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for panel, name, values in zip(axes, history, theirs.T, strict=True):
        label = "brainstate's transforms"
        program.course(panel, values, lw=4, color="0.75", label=label)
        program.course(panel, history[name], color="tab:blue", label="brainopt's")
        panel.set(xlabel="update")
        panel.legend(frameon=False)
    axes[0].set(ylabel="loss (nats)", title="The sign of a pulse, 30 steps later")
    axes[1].set(ylabel="accuracy in a batch of 64", ylim=(0, 1.03))
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
