# SPDX-License-Identifier: Apache-2.0
"""A spiking network learns the Yin-Yang task, and survives being killed.

A point of the yin-yang figure becomes five spike times (x, y, 1-x, 1-y and a bias); a
layer of leaky integrate-and-fire neurons listens, three leaky readouts answer "yin",
"yang" or "dot". Gradients pass the spikes through a surrogate derivative. A whole epoch
is one compiled call; a checkpoint is saved after each.

    python examples/yinyang_snn.py                  # train, draw yinyang.png
    python examples/yinyang_snn.py --resume         # go on where the last run ended
    python examples/yinyang_snn.py --device cuda

Source: Kriener, Göltz & Petrovici 2022, The Yin-Yang dataset (the task; there a linear
classifier reaches 0.643 and a ReLU network of 30 hidden units 0.977); Neftci, Mostafa &
Zenke 2019, Surrogate gradient learning in spiking neural networks.
"""

import argparse
import hashlib
import importlib.util
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

STEPS, BATCH = 40, 100  # time steps of one sample, samples of one update
EARLY, LATE = 2, 32  # first and last step at which an input may spike
TAU_V, TAU_I = 12.0, 5.0  # time constants of membrane and synapse, in steps


# --- the task


def classify(points):
    """Return the class of points ``(n, 2)`` in the unit square: yin, yang or dot."""
    x, y = points.T
    left = np.hypot(x - 0.25, y - 0.5)
    right = np.hypot(x - 0.75, y - 0.5)
    yin = (
        (right <= 0.1) | ((left > 0.1) & (left <= 0.25)) | ((y > 0.5) & (right > 0.25))
    )
    dot = (left < 0.1) | (right < 0.1)
    return np.where(dot, 2, np.where(yin, 0, 1))


def sample(n, seed):
    """Return ``n`` points of the figure and their classes, equally frequent."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(40 * n, 2))
    points = points[np.hypot(*(points - 0.5).T) <= 0.5]
    classes = classify(points)
    chosen = [np.flatnonzero(classes == c)[: n // 3 + 1] for c in range(3)]
    order = rng.permutation(np.concatenate(chosen))[:n]
    return points[order].astype(np.float32), classes[order].astype(np.int32)


def spike_times(points):
    """Return the step ``(n, 5)`` at which each input of each sample spikes."""
    bias = jnp.full((len(points), 1), 0.5)
    coded = jnp.concatenate([points, 1 - points, bias], axis=1)
    return jnp.round(EARLY + coded * (LATE - EARLY))


# --- the network


@jax.custom_jvp
def spike(v):
    """Return 1 where the membrane is above threshold; differentiable by surrogate."""
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _(primals, tangents):
    (v,), (dv,) = primals, tangents
    return spike(v), dv / (1 + 10 * jnp.abs(v)) ** 2


class Layer(bo.Node):
    """Leaky neurons with exponential synapses; spiking, or a mere readout."""

    def __init__(self, n_in, n_out, scale, rng, spiking=True):
        self.w = bo.TrainVar(scale * rng.normal((n_in, n_out)) / np.sqrt(n_in))
        self.i = bo.Variable(jnp.zeros((BATCH, n_out)), batch_axis=0)
        self.v = bo.Variable(jnp.zeros((BATCH, n_out)), batch_axis=0)
        self.spiking = spiking

    def reset(self, batch):
        self.i.value = jnp.zeros((batch, self.w.shape[1]))
        self.v.value = jnp.zeros((batch, self.w.shape[1]))

    def __call__(self, x):
        self.i.value = np.exp(-1 / TAU_I) * self.i + x @ self.w.value
        self.v.value = self.v + (self.i - self.v) / TAU_V
        if not self.spiking:
            return self.v.value
        z = spike(self.v - 1)
        self.v.value = self.v - jax.lax.stop_gradient(z)
        return z


class Network(bo.Node):
    """Five inputs, hidden spiking neurons, three readouts."""

    def __init__(self, hidden, rng):
        self.hidden = Layer(5, hidden, 6.0, rng)
        self.readout = Layer(hidden, 3, 1.5, rng, spiking=False)

    def reset(self, batch):
        self.hidden.reset(batch)
        self.readout.reset(batch)

    def step(self, x):
        z = self.hidden(x)
        return z, self.readout(z)

    def __call__(self, times):
        """Return spikes ``(steps, n, hidden)`` and readouts ``(steps, n, 3)``."""
        self.reset(len(times))
        return bo.for_loop(lambda t: self.step((times == t) * 1.0), jnp.arange(STEPS))

    def logits(self, times):
        """Return the highest voltage of each readout, ``(n, 3)``."""
        return 5 * self(times)[1].max(0)


# --- training


class Trainer(bo.Node):
    """Everything a run needs to go on: the network, its optimizer, the random state."""

    def __init__(self, hidden, epochs, seed):
        self.rng = bo.RandomState(seed)
        self.net = Network(hidden, self.rng)
        updates = epochs * (5000 // BATCH)
        rate = bo.optim.CosineAnnealingLR(5e-3, updates, 5e-4, clock="step")
        self.opt = bo.optim.AdamW(rate, self.net.train_vars(), weight_decay=1e-4)
        self.best = [bo.Variable(v.value) for v in self.net.train_vars().values()]
        self.best_accuracy = bo.Variable(0.0)

    @bo.jit
    def epoch(self, times, classes):
        """Train on every sample once; return the mean loss."""

        def update(picked):
            def loss():
                logp = jax.nn.log_softmax(self.net.logits(times[picked]))
                return -jnp.take_along_axis(logp, classes[picked][:, None], 1).mean()

            grads, value = bo.grad(loss, self.net.train_vars(), return_value=True)()
            self.opt.update(grads)
            return value

        order = self.rng.permutation(len(times)).reshape(-1, BATCH)
        return bo.for_loop(update, order).mean()

    @bo.jit
    def accuracy(self, times, classes):
        """Return the fraction of samples whose class is found."""
        right = self.net.logits(times).argmax(1) == classes
        self.net.reset(BATCH)
        return right.mean()

    @bo.jit
    def keep_if_best(self, accuracy):
        """Remember the weights where the validation accuracy has risen."""
        better = accuracy > self.best_accuracy
        for kept, now in zip(self.best, self.net.train_vars().values(), strict=True):
            kept.value = jnp.where(better, now.value, kept.value)
        self.best_accuracy.value = jnp.maximum(accuracy, self.best_accuracy.value)

    def choose_best(self):
        """Put the remembered weights into the network."""
        for kept, now in zip(self.best, self.net.train_vars().values(), strict=True):
            now.value = kept.value


def fingerprint(node):
    """Return a hash of every bit of the state of ``node``."""
    digest = hashlib.sha256()
    for path, array in sorted(node.state_dict().items()):
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        digest.update(path.encode() + np.asarray(array).tobytes())
    return digest.hexdigest()[:16]


def main():
    """Train, select on the validation set, test, draw."""
    options = argparse.ArgumentParser(
        description="Train a spiking network on the Yin-Yang task."
    )
    options.add_argument("--epochs", type=int, default=80)
    options.add_argument("--hidden", type=int, default=150)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--resume", action="store_true", help="go on from --checkpoint"
    )
    options.add_argument("--checkpoint", default="yinyang.bo")
    options.add_argument("--device", help="cpu, cpu:1, cuda, tpu, …")
    options.add_argument("--picture", default="yinyang.png", help="'' for none")
    args = options.parse_args()
    if args.picture and importlib.util.find_spec("matplotlib") is None:
        options.error("the picture needs matplotlib: install it, or say --picture ''")

    data = [sample(n, seed) for n, seed in ((5000, 42), (1000, 41), (1000, 40))]
    train, valid, test = [(spike_times(x), jnp.asarray(y)) for x, y in data]
    run = Trainer(args.hidden, args.epochs, args.seed)
    history, begin = [], 0
    if args.resume and Path(args.checkpoint).exists():
        found = bo.checkpoint.restore(args.checkpoint, {"run": run, "history": []})
        history = found["history"]
        begin = len(history)
        print(f"resumed {args.checkpoint} after epoch {begin}")
    if args.device:
        run.to(args.device)
        run.opt.to(args.device)

    start = time.perf_counter()
    for epoch in range(begin, args.epochs):
        loss = float(run.epoch(*train))
        accuracy = float(run.accuracy(*valid))
        run.keep_if_best(accuracy)
        history.append([loss, accuracy])
        bo.checkpoint.save(args.checkpoint, {"run": run, "history": history})
        bar = "█" * round(40 * (accuracy - 0.3) / 0.7)
        print(
            f"epoch {epoch + 1:3d}/{args.epochs}  loss {loss:.4f}  validation "
            f"{accuracy:.3f}  {time.perf_counter() - start:5.1f} s  {bar}",
            flush=True,
        )
    print(f"final state {fingerprint(run)}")
    run.choose_best()
    print(f"test accuracy {float(run.accuracy(*test)):.3f} (selected on validation)")
    if args.picture:
        draw(run, history, args.picture)
        print(f"wrote {args.picture}")


def draw(run, history, filename):
    """Draw the course of training, the decision map and one sample's spikes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    loss, accuracy = np.array(history).T
    epochs = np.arange(1, len(loss) + 1)
    axes[0].plot(epochs, loss, color="tab:gray", label="training loss")
    axes[0].plot(epochs, accuracy, color="tab:blue", label="validation accuracy")
    axes[0].axhline(0.643, color="tab:red", ls=":", label="linear classifier, 0.643")
    axes[0].set(xlabel="epoch", ylim=(0, 1.1), title="Training")
    axes[0].legend(loc="center right")

    grid = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, 100)]), -1).reshape(-1, 2)
    grid = grid.astype(np.float32)
    answer = np.asarray(bo.jit(run.net.logits)(spike_times(grid)).argmax(1))
    colors = ListedColormap(["#f2c14e", "#3f7cac", "#b23a48"])
    inside = np.hypot(*(grid - 0.5).T) <= 0.5
    shown = np.ma.masked_where(~inside, answer).reshape(100, 100)
    axes[1].imshow(shown, origin="lower", extent=(0, 1, 0, 1), cmap=colors)
    truth = np.ma.masked_where(~inside, classify(grid)).reshape(100, 100)
    axes[1].contour(truth, (0.5, 1.5), extent=(0, 1, 0, 1), colors="k", linewidths=0.8)
    axes[1].set(title="Decisions (lines: the true borders)", xlabel="x", ylabel="y")

    spikes, volts = bo.jit(run.net)(spike_times(np.array([[0.25, 0.5]], np.float32)))
    when, who = np.nonzero(np.asarray(spikes[:, 0]))
    axes[2].scatter(when, who, s=4, color="k", label="hidden spikes")
    axes[2].set(title="One sample: the left dot", xlabel="time step", ylabel="neuron")
    twin = axes[2].twinx()
    for c, name in enumerate(("yin", "yang", "dot")):
        twin.plot(volts[:, 0, c], color=colors(c), label=name)
    twin.set_ylabel("readout voltage")
    twin.legend(loc="upper left")
    figure.savefig(filename, dpi=110)


if __name__ == "__main__":
    main()
