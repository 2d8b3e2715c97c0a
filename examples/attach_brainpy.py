# SPDX-License-Identifier: Apache-2.0
"""Train brainpy networks with brainopt: three ways, and on after a kill.

A spiking network built with ``bp.dyn`` and ``bp.dnn`` learns which half of its inputs
is more active. Nothing in the model knows of brainopt: the optimizer takes the model
itself, and the same AdamW works inside ``bm.jit``, inside ``bo.jit`` and in
``bp.BPTT(...).fit``. Model, optimizer and random state are saved in one file.

A second program has the shape of one that BrainPy publishes: its trainer ``bp.BPTT``
teaches a recurrent network to integrate its input. There our optimizer stands in for
that of BrainPy, and with ``dialect="brainpy"`` it gives equal losses.

    pip install '.[brainpy]'
    python examples/attach_brainpy.py             # draws attach_brainpy.png

Source: the example integrator_rnn of BrainPy, for the second program.
"""

import program

PARSER = program.options(__doc__, "attach_brainpy", 60, "one batch", seed=0)
program.require("brainpy", "brainpy", PARSER)

# ruff: noqa: E402
import brainpy as bp
import brainpy.math as bm
import jax.numpy as jnp
import numpy as np

import brainopt as bo

INPUTS, HIDDEN, TIME, BATCH = 20, 30, 25, 32


class Network(bp.DynamicalSystem):
    """Inputs → leaky integrate-and-fire neurons → leaky readout."""

    def __init__(self):
        super().__init__(mode=bm.training_mode)
        weights = bp.init.KaimingNormal(scale=4.0)
        self.to_hidden = bp.dnn.Dense(INPUTS, HIDDEN, W_initializer=weights)
        self.hidden = bp.dyn.Lif(
            HIDDEN, V_rest=0.0, V_reset=0.0, V_th=1.0, tau=5.0, mode=self.mode
        )
        self.to_out = bp.dnn.Dense(HIDDEN, 2, W_initializer=weights)
        self.out = bp.dyn.Leaky(2, tau=10.0, mode=self.mode)

    def update(self, x):
        return self.out(self.to_out(self.hidden(self.to_hidden(x))))


def batches(count, seed):
    """Return spikes (count, time, batch, inputs) and which half is more active."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, BATCH))
    stronger = (np.arange(INPUTS) >= INPUTS // 2) == labels[..., None]
    rates = np.where(stronger, 0.30, 0.20)[:, None]
    spikes = rng.random((count, TIME, BATCH, INPUTS)) < rates
    return jnp.asarray(spikes, jnp.float32), jnp.asarray(labels)


def cross_entropy(outputs, labels):
    """Return the loss of outputs (…, batch, 2), averaged over time."""
    return bp.losses.cross_entropy_loss(outputs.mean(0), labels)


def make(seed):
    """Return a network, its loss and an optimizer."""
    bm.random.seed(seed)
    bm.set(mode=bm.training_mode, dt=1.0)
    net = Network()

    def loss(spikes, labels):
        net.reset(BATCH)
        return cross_entropy(bm.for_loop(net, spikes), labels)

    return net, loss, bo.optim.AdamW(1e-2, net, clip_norm=1.0)


def stepper(net, loss, opt, way):
    """Return a compiled training step, by brainpy's transforms or by ours."""
    if way == "bm.jit":
        gradient = bm.grad(loss, net.train_vars().unique(), return_value=True)
    else:
        gradient = bo.grad(loss, net, return_value=True)

    def step(spikes, labels):
        grads, value = gradient(spikes, labels)
        opt.update(grads)
        return value

    return bm.jit(step) if way == "bm.jit" else bo.jit(step)


def train(step, data):
    """Return the losses of all batches."""
    return [float(step(*batch)) for batch in zip(*data, strict=True)]


def fit(net, opt, data):
    """Train with brainpy's own trainer; return the losses."""
    trainer = bp.BPTT(net, cross_entropy, opt, data_first_axis="T", progress_bar=False)
    trainer.fit(lambda: zip(*data, strict=True), num_epoch=1)
    return list(map(float, trainer.get_hist_metric(which="detailed")))


class Integrator(bp.DynamicalSystem):
    """A recurrent network whose output is to be the integral of its input."""

    def __init__(self):
        super().__init__(mode=bm.training_mode)
        self.rnn = bp.dyn.RNNCell(1, 32, mode=self.mode)
        self.out = bp.dnn.Dense(32, 1, mode=self.mode)

    def update(self, x):
        return self.out(self.rnn(x))


def integrate(make_optimizer, steps, seed):
    """Return the losses of BrainPy's trainer with the optimizer of an Integrator."""
    bm.random.seed(seed)
    bm.set(mode=bm.training_mode, dt=1.0)
    net = Integrator()
    x = np.random.default_rng(seed).normal(size=(steps, BATCH, TIME, 1))
    x = jnp.asarray(x + 0.5, jnp.float32) / TIME
    trainer = bp.BPTT(
        net,
        loss_fun=bp.losses.mean_squared_error,
        optimizer=make_optimizer(net),
        progress_bar=False,
    )
    trainer.fit(lambda: zip(x, x.cumsum(2), strict=True), num_epoch=1)
    return list(map(float, trainer.get_hist_metric(which="detailed")))


def theirs(net):
    """Return BrainPy's Adam."""
    return bp.optim.Adam(lr=0.025, train_vars=net.train_vars().unique(), eps=0.1)


def ours(net):
    """Return ours, by BrainPy's formula."""
    numbers = {"eps": 0.1, "weight_decay": 0.0, "dialect": "brainpy"}
    return bo.optim.AdamW(0.025, net, **numbers)


class Run(bo.Node):
    """What a run needs to go on: the attached network and its optimizer."""

    def __init__(self, seed):
        net, loss, self.opt = make(seed)
        self.net = bo.attach(net)
        self.train = stepper(net, loss, self.opt, "bo.jit")


def main(argv=None):
    """Train three ways and with BrainPy's trainer; return the results."""
    args = program.parse(PARSER, argv)
    data, losses = batches(args.steps, args.seed), {}
    run = Run(args.seed)
    print(run.net)

    def advance():
        step = int(run.opt.step.value)
        return {"loss": run.train(data[0][step], data[1][step])}

    history = program.train(args, run, advance, every=min(10, args.steps))
    losses["bo.jit"] = history["loss"]
    losses["bm.jit"] = np.array(train(stepper(*make(args.seed), "bm.jit"), data))
    net, _, opt = make(args.seed)
    losses["bp.BPTT"] = np.array(fit(net, opt, data))
    integrator = {
        way.__name__: np.array(integrate(way, args.steps, args.seed))
        for way in (theirs, ours)
    }
    results = {
        "first loss": float(losses["bo.jit"][0]),
        "last loss": float(losses["bo.jit"][-1]),
        "largest difference of losses between the ways": max(
            float(np.abs(other - losses["bm.jit"]).max()) for other in losses.values()
        ),
        "last loss of the integrator": float(integrator["ours"][-1]),
        "largest relative difference of its losses to BrainPy's": float(
            np.abs(integrator["ours"] / integrator["theirs"] - 1).max()
        ),
    }
    program.report(args, run, results)
    if args.figure:
        draw(losses, integrator, args.figure)
    return results


def draw(losses, integrator, filename):
    """Draw the losses of all ways, one over the other."""
    plt = program.pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for panel, ways in zip(axes, (losses, integrator), strict=True):
        for k, (way, values) in enumerate(ways.items()):
            style = {"lw": 5 - 2 * k, "ls": ("-", "-", ":")[k]}
            program.course(panel, values, label=way, **style)
        panel.set(xlabel="update", yscale="log")
        panel.legend(frameon=False)
    axes[0].set(ylabel="cross entropy (nats)", title="Spiking network")
    axes[1].set(ylabel="mean squared error", title="Integrator, bp.BPTT")
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
