# SPDX-License-Identifier: Apache-2.0
"""A rate network with Dale's law learns a perceptual decision.

80 excitatory and 20 inhibitory neurons see two noisy streams of evidence and report,
after a delay, which was stronger. Every neuron only excites or only inhibits: the signs
of its outgoing weights are a constraint of the optimizer, so no step can break them.

    python examples/dale_rnn.py                 # about 20 s on 2 CPU cores
    python examples/dale_rnn.py --steps 20      # a quick look

Source: Song, Yang & Wang 2016, Training excitatory-inhibitory recurrent neural networks
for cognitive tasks: the network, the constraint and the task, without its noise terms
in the recurrent weights.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

N_EXC, N_INH = 80, 20
N = N_EXC + N_INH
DT, TAU = 20.0, 100.0  # ms
FIXATION, STIMULUS, DECISION = 5, 25, 10  # steps of DT
COHERENCES = jnp.array([0.032, 0.064, 0.128, 0.256, 0.512])
SIGNS = jnp.where(jnp.arange(N) < N_EXC, 1.0, -1.0)


class Network(bo.Node):
    """x ← (1 - α) x + α (W r + W_in u + b) + noise, with the rates r = max(x, 0)."""

    def __init__(self, seed):
        self.rng = bo.RandomState(seed)
        weights = self.rng.gamma(2.0, (N, N)) * SIGNS
        # Inhibition balances excitation, and the spectral radius is 1.3.
        weights = weights * jnp.where(SIGNS > 0, 1.0, N_EXC / N_INH)
        radius = np.abs(np.linalg.eigvals(np.asarray(weights))).max()
        self.w_rec = bo.TrainVar(weights * (1.3 / radius))
        self.w_in = bo.TrainVar(self.rng.uniform((3, N), maxval=0.3))
        self.w_out = bo.TrainVar(self.rng.uniform((N, 2), maxval=0.05))
        self.bias = bo.TrainVar((N,))
        self.x = bo.Variable((1, N), batch_axis=0)

    def __call__(self, inputs):
        """Return the two outputs at each time, (time, batch, 2)."""
        self.x.value = jnp.zeros((inputs.shape[1], N))
        return bo.for_loop(self.step, inputs)

    def step(self, u):
        alpha = DT / TAU
        rates = jax.nn.relu(self.x.value)
        drive = rates @ self.w_rec.value.T + u @ self.w_in.value + self.bias.value
        noise = 0.05 * self.rng.normal(self.x.shape)
        self.x.value = (1 - alpha) * self.x.value + alpha * drive + noise
        # Only excitatory neurons project out of the network.
        return jax.nn.relu(self.x.value) * (SIGNS > 0) @ self.w_out.value


def trials(rng, coherence):
    """Return inputs (time, batch, 3) and choices (batch,) for signed coherences."""
    batch, time_ = coherence.shape[0], FIXATION + STIMULUS + DECISION
    t = jnp.arange(time_)[:, None]
    seen = (t >= FIXATION) & (t < FIXATION + STIMULUS)
    evidence = jnp.stack([1 + coherence, 1 - coherence], -1) / 2
    noise = 0.2 * rng.normal((time_, batch, 2))
    streams = seen[..., None] * (evidence + noise)
    fixation = jnp.broadcast_to(t < FIXATION + STIMULUS, (time_, batch))
    inputs = jnp.concatenate([fixation[..., None] * 1.0, streams], -1)
    return inputs, (coherence < 0).astype(int)


def main(steps=600, batch=64, seed=0, figure="dale_rnn.png"):
    """Train, test, draw; return the accuracy on the training coherences."""
    net, rng = Network(seed), bo.RandomState(seed + 1)
    opt = bo.optim.AdamW(
        1e-2,
        net,
        weight_decay=1e-4,
        clip_norm=1.0,
        groups=[
            {"match": "w_rec", "sign": SIGNS},  # one sign for each column: the sender
            {"match": ["w_in", "w_out"], "sign": 1.0},
            {"match": "bias", "lr_mult": 0.1, "weight_decay": 0.0},
        ],
    )

    def loss(inputs, choices):
        outputs = net(inputs)
        weight = jnp.where(jnp.arange(len(outputs)) < FIXATION + STIMULUS, 0.2, 1.0)
        log_p = jax.nn.log_softmax(outputs)[:, jnp.arange(len(choices)), choices]
        silent = (outputs[:FIXATION] ** 2).mean()
        return -(weight * log_p.mean(1)).mean() + silent

    gradient = bo.grad(loss, net, return_value=True)

    @bo.jit
    def step():
        sides = jnp.where(rng.bernoulli(0.5, (batch,)), 1.0, -1.0)
        grads, value = gradient(*trials(rng, sides * rng.choice(COHERENCES, (batch,))))
        opt.update(grads)
        return value

    @bo.jit
    def chosen(coherence):
        inputs, _ = trials(rng, coherence)
        return net(inputs)[-DECISION:].mean(0).argmax(-1)

    start = time.perf_counter()
    for i in range(steps):
        value = step()
        if i % 50 == 49 or i == steps - 1:
            spent = time.perf_counter() - start
            print(f"step {i + 1:4d}  loss {float(value):.3f}  {spent:.1f} s")

    signed = jnp.concatenate([-COHERENCES[::-1], COHERENCES])
    to_first = 1 - jnp.stack([chosen(jnp.full((512,), c)).mean() for c in signed])
    accuracy = float(jnp.where(signed > 0, to_first, 1 - to_first).mean())
    print(f"accuracy {accuracy:.3f}")
    broken = int((net.w_rec.value * SIGNS < 0).sum())
    print(f"weights that break Dale's law: {broken}")
    if figure:
        draw(np.asarray(signed), np.asarray(to_first), figure)
    return accuracy, broken


def draw(coherence, to_first, path):
    """Write the psychometric curve."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
    axes.plot(100 * coherence, to_first, "o-", color="tab:blue")
    axes.axhline(0.5, color="0.8", zorder=0)
    axes.set(xlabel="coherence (%)", ylabel="fraction to the first", ylim=(-0.03, 1.03))
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", default="dale_rnn.png", help="'' for none")
    options = parser.parse_args()
    main(options.steps, seed=options.seed, figure=options.figure)
