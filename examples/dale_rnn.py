# SPDX-License-Identifier: Apache-2.0
"""A rate network with Dale's law learns a perceptual decision.

80 excitatory and 20 inhibitory neurons see two noisy streams of evidence and report,
after the streams have ended, which was stronger. Every neuron only excites or only
inhibits: the signs of its outgoing weights are a constraint of the optimizer, so no
step can break them.

How hard it is: the streams differ by the coherence, 3.2 to 51.2 %, under noise that
hides the weak ones. An ideal observer, who adds up all the evidence there was, is
right in 96 % of the trials; the network has noise of its own besides. Its weights are
those of the best validation during training, and new trials give the accuracy.

    python examples/dale_rnn.py                 # about 20 s on 2 CPU cores
    python examples/dale_rnn.py --steps 20      # a quick look

Source: Song, Yang & Wang 2016, Training excitatory-inhibitory recurrent neural networks
for cognitive tasks: the network, the constraint and the task, without its noise terms
in the recurrent weights.
"""

import argparse
import importlib.util
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
LEVELS = jnp.concatenate([-COHERENCES[::-1], COHERENCES])  # the sign: which is stronger
SENSORY_NOISE = 0.12  # of each stream and step
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
    noise = SENSORY_NOISE * rng.normal((time_, batch, 2))
    streams = seen[..., None] * (evidence + noise)
    fixation = jnp.broadcast_to(t < FIXATION + STIMULUS, (time_, batch))
    inputs = jnp.concatenate([fixation[..., None] * 1.0, streams], -1)
    return inputs, (coherence < 0).astype(int)


def ideal(coherence):
    """Return how often the best decision is for the first stream.

    The difference of the streams has the mean c and the variance 2 σ² in each of the
    steps, so its sum has the signal-to-noise ratio c √steps / (σ √2).
    """
    ratio = coherence * jnp.sqrt(STIMULUS / 2) / SENSORY_NOISE
    return jax.scipy.stats.norm.cdf(ratio)


def accuracy(to_first):
    """Return the fraction of right decisions over all levels."""
    return float(jnp.where(LEVELS > 0, to_first, 1 - to_first).mean())


def make_optimizer(net, steps):
    """Return AdamW with a rule for each kind of weights."""
    lr = bo.optim.CosineAnnealingLR(5e-3, steps, clock="step")
    rules = [
        {"match": "w_rec", "sign": SIGNS},  # one sign for each column: the sender
        {"match": ["w_in", "w_out"], "sign": 1.0},
        {"match": "bias", "lr_mult": 0.1, "weight_decay": 0.0},
    ]
    return bo.optim.AdamW(lr, net, weight_decay=1e-4, clip_norm=1.0, groups=rules)


def main(steps=800, batch=64, seed=0, figure="dale_rnn.png"):
    """Train, select, test, draw; return the accuracy and the count of broken signs."""
    net, rng, unseen = Network(seed), bo.RandomState(seed + 1), bo.RandomState()
    opt = make_optimizer(net, steps)

    def loss(inputs, choices):
        outputs = net(inputs)
        # The decision counts five times as much as what comes before it.
        weight = jnp.where(jnp.arange(len(outputs)) < FIXATION + STIMULUS, 0.2, 1.0)
        log_p = jax.nn.log_softmax(outputs)[:, jnp.arange(len(choices)), choices]
        silent = (outputs[:FIXATION] ** 2).mean()
        return -(weight * log_p.mean(1)).mean() + silent

    gradient = bo.grad(loss, net, return_value=True)

    @bo.jit
    def step():
        grads, value = gradient(*trials(rng, rng.choice(LEVELS, (batch,))))
        opt.update(grads)
        return value

    @bo.jit(static_argnums=0)
    def psychometric(count):
        inputs, _ = trials(unseen, jnp.repeat(LEVELS, count))
        chosen = net(inputs)[-DECISION:].mean(0).argmax(-1)
        return 1 - chosen.reshape(len(LEVELS), count).mean(1)

    start = time.perf_counter()
    best, kept = 0.0, net.state_dict()
    for i in range(steps):
        value = step()
        if i % 50 == 49 or i == steps - 1:
            unseen.seed(seed + 2)  # the same trials each time
            valid = accuracy(psychometric(200))
            if valid > best:
                best, kept = valid, net.state_dict()
            spent = time.perf_counter() - start
            shown = f"loss {float(value):.3f}  validation {valid:.3f}  {spent:.1f} s"
            print(f"step {i + 1:4d}  {shown}")

    net.load_state_dict(kept)
    unseen.seed(seed + 3)
    to_first = psychometric(1000)
    right, bound = accuracy(to_first), accuracy(ideal(LEVELS))
    print(f"accuracy {right:.3f}; an ideal observer reaches {bound:.3f}")
    broken = int((net.w_rec.value * SIGNS < 0).sum())
    print(f"weights that break Dale's law: {broken}")
    if figure:
        draw(np.asarray(to_first), figure)
    return right, broken


def draw(to_first, path):
    """Write the psychometric curve, beside that of the ideal observer."""
    import matplotlib.pyplot as plt

    fine = jnp.linspace(LEVELS[0], LEVELS[-1], 401)
    figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
    axes.plot(100 * fine, ideal(fine), color="0.7", label="ideal observer")
    axes.plot(100 * LEVELS, to_first, "o", color="tab:blue", label="network")
    axes.set(xlabel="coherence (%)", ylabel="fraction to the first", ylim=(-0.03, 1.03))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", default="dale_rnn.png", help="'' for none")
    options = parser.parse_args()
    if options.figure and importlib.util.find_spec("matplotlib") is None:
        parser.error("the figure needs matplotlib: install it, or say --figure ''")
    main(options.steps, seed=options.seed, figure=options.figure)
