# SPDX-License-Identifier: Apache-2.0
"""A spiking network finds the class of random manifolds in spike times alone.

Each of ten classes is a smooth random curve in the space of the spike times of 20 input
neurons, each of which spikes once: rates say nothing, only times do. One hidden layer
of 128 leaky integrate-and-fire neurons and a leaky readout are trained by surrogate
gradients. Every seed has manifolds of its own.

    python examples/randman_snn.py                  # train, draw randman.png
    python examples/randman_snn.py --seed 2         # other manifolds, other weights

Source: Zenke & Vogels 2021, The remarkable robustness of surrogate gradient learning
for instilling complex function in spiking neural networks (the task). The sizes are
those of the notebook 01_Shallow_SNN_Randman of stork, which prints a test accuracy of
0.963 after 200 epochs and speaks of 13 to 20 minutes on a CPU.
Measured: 0.985 to 0.994 on five data sets (seeds 1 to 5) after 60 epochs, each in 35 to
45 s on two cores that others used as well (32 to 36 s of a processor).
Differs: a generator of our own after the definition, AdamW with one cycle of the
learning rate, no regularizer of the activity.
"""

import jax
import jax.numpy as jnp
import numpy as np
import program
from surrogates import fast_sigmoid

import brainopt as bo

CLASSES, INPUTS, SAMPLES = 10, 20, 1000  # samples of each class
STEPS, DT, LATEST = 100, 2.0, 50  # time steps, ms; the last step that may have a spike
TAU_I, TAU_V, TAU_OUT = 10.0, 20.0, 200.0  # ms: synapse, membrane, readout
BATCH = 250


# --- the task


def manifold(rng, samples, alpha=1.0):
    """Return points ``(samples, inputs)`` in [0, 1] of a random smooth curve.

    Each coordinate is a Fourier series whose k-th amplitude falls as ``1 / k**alpha``.
    """
    terms = int(min(np.ceil(1e-3 ** (-1 / alpha)), 1000))
    k = np.arange(1, terms, dtype=np.float32)
    series = rng.uniform(size=(3, INPUTS, terms - 1)).astype(np.float32)
    x = rng.uniform(size=(samples, 1)).astype(np.float32)
    curve = np.stack(
        [
            np.sin(np.float32(2 * np.pi) * (x * (k * f) + p)) @ (a / (k + 1) ** alpha)
            for a, f, p in zip(*series, strict=True)
        ],
        axis=1,
    )
    low, high = curve.min(0), curve.max(0)
    return (curve - low) / (high - low)


def make_data(seed):
    """Return spike times ``(n, inputs)`` and classes to train, validate and test."""
    rng = np.random.default_rng([2021, seed])
    points = np.concatenate([manifold(rng, SAMPLES) for _ in range(CLASSES)])
    times = np.floor(points * LATEST).astype(np.float32)
    classes = np.repeat(np.arange(CLASSES), SAMPLES)
    order = rng.permutation(len(times))
    cuts = [8 * len(times) // 10, 9 * len(times) // 10]
    parts = [np.split(array[order], cuts) for array in (times, classes)]
    return [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(*parts, strict=True)]


# --- the network


class Network(bo.Node):
    """20 inputs, one layer of spiking neurons with exponential synapses, ten readouts.

    The logit of a class is the mean voltage of its leaky readout. That is linear in
    the spikes, so a spike counts by the step it falls on: the network adds the spikes
    up by these weights, and one product serves all the steps. It takes half the time.
    """

    def __init__(self, hidden, rng):
        self.w_in = bo.TrainVar(4 * rng.normal((INPUTS, hidden)) / np.sqrt(INPUTS))
        self.w_out = bo.TrainVar(rng.normal((hidden, CLASSES)) / np.sqrt(hidden))
        self.i = bo.Variable(jnp.zeros((BATCH, hidden)), batch_axis=0)
        self.v = bo.Variable(jnp.zeros((BATCH, hidden)), batch_axis=0)
        self.heard = bo.Variable(jnp.zeros((BATCH, hidden)), batch_axis=0)
        self.weights = weights_of_steps()

    def reset(self, batch):
        for state in (self.i, self.v, self.heard):
            state.value = jnp.zeros((batch, state.shape[1]))

    def step(self, x, weight):
        keep_i, keep_v = np.exp(-DT / TAU_I), np.exp(-DT / TAU_V)
        self.i.value = keep_i * self.i + x @ self.w_in.value
        self.v.value = keep_v * self.v + (1 - keep_v) * self.i
        z = fast_sigmoid(self.v - 1)
        self.v.value = self.v - jax.lax.stop_gradient(z)
        self.heard.value = self.heard + weight * z

    def __call__(self, times):
        """Return the logits ``(n, classes)`` of spike times ``(n, inputs)``."""
        self.reset(len(times))
        steps = jnp.arange(STEPS), self.weights
        bo.for_loop(lambda t, weight: self.step((times == t) * 1.0, weight), steps)
        return 20 * self.heard.value @ self.w_out.value


def weights_of_steps():
    """Return what a spike at each step adds to the mean voltage of a readout."""
    keep_i, keep_v = np.exp(-DT / TAU_I), np.exp(-DT / TAU_OUT)
    i, v, volts = 1.0, 0.0, []
    for _ in range(STEPS):
        v, i = keep_v * v + (1 - keep_v) * i, keep_i * i
        volts.append(v)
    return (np.cumsum(volts)[::-1] / STEPS).astype(np.float32)


# --- training


class Trainer(bo.Node):
    """Everything a run needs to go on: the network, its optimizer, the random state."""

    def __init__(self, hidden, epochs, seed):
        self.rng = bo.RandomState(seed)
        self.net = Network(hidden, self.rng)
        updates = epochs * (8 * CLASSES * SAMPLES // 10 // BATCH)
        rate = bo.optim.OneCycleLR(5e-3, updates)
        self.opt = bo.optim.AdamW(rate, self.net, weight_decay=1e-3, clip_norm=1.0)

    @bo.jit
    def epoch(self, times, classes):
        """Train on every sample once; return the mean loss."""

        def update(picked):
            def loss():
                logp = jax.nn.log_softmax(self.net(times[picked]))
                return -jnp.take_along_axis(logp, classes[picked][:, None], 1).mean()

            grads, value = bo.grad(loss, self.net.train_vars(), return_value=True)()
            self.opt.update(grads)
            return value

        order = self.rng.permutation(len(times)).reshape(-1, BATCH)
        return bo.for_loop(update, order).mean()

    @bo.jit
    def answers(self, times):
        """Return the class that is found for each sample, ``(n,)``."""
        found = self.net(times).argmax(1)
        # The next epoch finds the state with the batch it was traced for.
        self.net.reset(BATCH)
        return found

    def accuracy(self, times, classes):
        """Return the fraction of samples whose class is found."""
        return float((self.answers(times) == classes).mean())


def main(argv=None):
    """Train, test, draw; return the results."""
    parser = program.options(
        __doc__, "randman", 60, "one epoch of 32 updates and a checkpoint"
    )
    parser.add_argument("--hidden", type=int, default=128, help="spiking neurons (128)")
    args = program.parse(parser, argv)

    train, valid, test = make_data(args.seed)
    run = Trainer(args.hidden, args.steps, args.seed)

    def advance():
        return {"loss": run.epoch(*train), "validation accuracy": run.accuracy(*valid)}

    history = program.train(args, run, advance)
    results = {
        "validation accuracy": run.accuracy(*valid),
        "test accuracy": run.accuracy(*test),
    }
    program.report(args, run, results)
    if args.figure:
        draw(run, history, test, args.figure)
    return results


def draw(run, history, test, filename):
    """Draw the input of three classes, the course of training, and the confusions."""
    plt = program.pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    times, classes = map(np.asarray, test)
    for c, color in zip(range(3), ("tab:blue", "tab:orange", "tab:green"), strict=True):
        some = times[classes == c][:15] * DT
        rows = np.tile(np.arange(INPUTS), len(some)) + 0.25 * (c - 1)
        axes[0].scatter(some, rows, s=4, color=color, label=f"class {c}", alpha=0.7)
    axes[0].set(xlabel="spike time (ms)", ylabel="input neuron")
    axes[0].set(title="15 samples of three classes", xlim=(-2, 130))
    axes[0].set_yticks(range(0, INPUTS, 5))
    axes[0].legend(fontsize=7, frameon=False, loc="center right", handletextpad=0)

    error = 1 - history["validation accuracy"]
    program.course(axes[1], error, color="tab:blue", label="this network")
    axes[1].axhline(1 - 0.963, color="0.2", ls="--", label="stork, 200 epochs (test)")
    axes[1].set(xlabel="epoch", ylabel="validation error", title="Training")
    axes[1].set(yscale="log")
    axes[1].legend(fontsize=7, frameon=False)

    table = np.zeros((CLASSES, CLASSES))
    np.add.at(table, (classes, np.asarray(run.answers(test[0]))), 1)
    table /= table.sum(1, keepdims=True)
    image = axes[2].imshow(100 * table, cmap="Blues", vmin=0, vmax=100)
    axes[2].set(xlabel="class found", ylabel="true class", title="Test samples")
    axes[2].set(xticks=range(CLASSES), yticks=range(CLASSES))
    figure.colorbar(image, ax=axes[2], label="share of the class (%)")
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
