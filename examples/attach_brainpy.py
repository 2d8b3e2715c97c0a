# SPDX-License-Identifier: Apache-2.0
"""Train a brainpy network with brainopt: three ways, and on after a restart.

A spiking network built with ``bp.dyn`` and ``bp.dnn`` learns which half of its inputs
is more active. Nothing in the model knows of brainopt: the optimizer takes the model
itself, and the same AdamW works inside ``bm.jit``, inside ``bo.jit`` and in
``bp.BPTT(...).fit``. Model, optimizer and random state are saved in one file.

    pip install brainopt[brainpy]
    python examples/attach_brainpy.py
"""

import argparse
import os
import tempfile

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


def main(steps=60):
    """Train three ways, save, resume; return the losses by way."""
    data = batches(steps, seed=0)
    print(bo.attach(make(seed=0)[0]))
    losses = {}
    for way in ("bm.jit", "bo.jit"):
        losses[way] = train(stepper(*make(seed=0), way), data)
    net, _, opt = make(seed=0)
    losses["bp.BPTT"] = fit(net, opt, data)
    for way, values in losses.items():
        print(f"{way:8}  first loss {values[0]:.4f}  last {values[-1]:.4f}")

    half = steps // 2
    first, second = ([d[:half] for d in data], [d[half:] for d in data])
    net, loss, opt = make(seed=0)
    train(stepper(net, loss, opt, "bo.jit"), first)
    path = os.path.join(tempfile.mkdtemp(), "run.bopt")
    bo.checkpoint.save(path, {"net": bo.attach(net), "opt": opt})

    net, loss, opt = make(seed=7)  # as after a restart, with other weights
    bo.checkpoint.restore(path, {"net": bo.attach(net), "opt": opt})
    resumed = train(stepper(net, loss, opt, "bo.jit"), second)
    same = resumed == losses["bo.jit"][half:]
    print(f"resumed   last loss {resumed[-1]:.4f}, equal to the bit: {same}")
    return {**losses, "resumed": resumed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    main(parser.parse_args().steps)
