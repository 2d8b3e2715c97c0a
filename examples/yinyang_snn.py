# SPDX-License-Identifier: Apache-2.0
"""A spiking network learns the Yin-Yang task, and survives being killed.

A point of the yin-yang figure becomes five spike times (x, y, 1-x, 1-y and a bias); a
layer of leaky integrate-and-fire neurons receives them, and three leaky readouts give
the class: yin, yang or dot. Gradients pass the spikes through a surrogate derivative.
A whole epoch is one compiled call, and a checkpoint is saved after each.

    python examples/yinyang_snn.py                  # train, draw yinyang.png
    python examples/yinyang_snn.py --resume         # go on where the last run ended
    python examples/yinyang_snn.py --learn-tau --steps 300    # time constants as well

Source: Kriener, Göltz & Petrovici 2022, The Yin-Yang dataset (the task); the README of
its repository gives 0.987 ± 0.003 for an artificial network of 120 hidden units and
0.643 for a linear classifier. Neftci, Mostafa & Zenke 2019, Surrogate gradient learning
in spiking neural networks.
Measured: 0.979 to 0.985, on average 0.9815, with twenty seeds (1 to 20), each in some
18 s on two quiet cores; with learned time constants and 300 epochs 0.985 to 0.988 with
3 seeds, each in some 77 s of a processor.
Differs: 5000 training points as there; the test has 10,000 points instead of 1000,
since 1000 leave a sampling error of 0.004.
"""

import jax
import jax.numpy as jnp
import numpy as np
import program
from surrogates import fast_sigmoid

import brainopt as bo

STEPS, BATCH = 40, 100  # time steps (ms) of one sample, samples of one update
EARLY, LATE = 2.0, 32.0  # ms; between them an input may spike
TAU_V, TAU_I = 12.0, 5.0  # time constants of membrane and synapse, ms


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
    """Return the time in ms ``(n, 5)`` at which each input of each sample spikes."""
    bias = jnp.full((len(points), 1), 0.5)
    coded = jnp.concatenate([points, 1 - points, bias], axis=1)
    return EARLY + coded * (LATE - EARLY)


# --- the network


class Layer(bo.Node):
    """Leaky neurons with exponential synapses; spiking, or a mere readout."""

    def __init__(self, n_in, n_out, scale, rng, spiking=True, learn_tau=False):
        self.w = bo.TrainVar(scale * rng.normal((n_in, n_out)) / np.sqrt(n_in))
        kind = bo.TrainVar if learn_tau else bo.Variable
        shape = (n_out,) if learn_tau else ()
        self.log_tau_v = kind(jnp.full(shape, np.log(TAU_V)))
        self.log_tau_i = kind(jnp.full(shape, np.log(TAU_I)))
        self.i = bo.Variable(jnp.zeros((BATCH, n_out)), batch_axis=0)
        self.v = bo.Variable(jnp.zeros((BATCH, n_out)), batch_axis=0)
        self.spiking = spiking

    def reset(self, batch):
        self.i.value = jnp.zeros((batch, self.w.shape[1]))
        self.v.value = jnp.zeros((batch, self.w.shape[1]))

    def __call__(self, x):
        keep = jnp.exp(-jnp.exp(-self.log_tau_i.value))
        self.i.value = keep * self.i + x @ self.w.value
        self.v.value = self.v + (self.i - self.v) * jnp.exp(-self.log_tau_v.value)
        if not self.spiking:
            return self.v.value
        z = fast_sigmoid(self.v - 1)
        self.v.value = self.v - jax.lax.stop_gradient(z)
        return z


class Network(bo.Node):
    """Five inputs, hidden spiking neurons, three readouts."""

    def __init__(self, hidden, rng, learn_tau):
        self.hidden = Layer(5, hidden, 6.0, rng, learn_tau=learn_tau)
        self.readout = Layer(hidden, 3, 1.5, rng, spiking=False, learn_tau=learn_tau)

    def reset(self, batch):
        self.hidden.reset(batch)
        self.readout.reset(batch)

    def step(self, times, t):
        # A spike between two steps gives each of them its share: no time is rounded.
        z = self.hidden(jnp.maximum(0.0, 1 - jnp.abs(times - t)))
        return z, self.readout(z)

    def __call__(self, times):
        """Return spikes ``(steps, n, hidden)`` and readouts ``(steps, n, 3)``."""
        self.reset(len(times))
        return bo.for_loop(lambda t: self.step(times, t), jnp.arange(STEPS * 1.0))

    def logits(self, times):
        """Return the mean voltage of each readout, scaled, ``(n, 3)``.

        The maximum over time would leave some seeds stuck: a readout starts at 0, so
        one that stays negative has its maximum at the start, where the gradient is 0,
        and its class can never win.
        """
        return 20 * self(times)[1].mean(0)


# --- training


class Trainer(bo.Node):
    """Everything a run needs to go on: the network, its optimizer, the random state."""

    def __init__(self, hidden, epochs, seed, learn_tau=False):
        self.rng = bo.RandomState(seed)
        self.net = Network(hidden, self.rng, learn_tau)
        updates = epochs * (5000 // BATCH)
        highest = 5e-3 if learn_tau else 1e-2
        rate = bo.optim.CosineAnnealingLR(highest, updates, 1e-5, clock="step")
        rules = [{"match": "*log_tau*", "lr_mult": 2.0, "weight_decay": 0.0}]
        self.opt = bo.optim.AdamW(
            rate,
            self.net,
            weight_decay=1e-4,
            clip_norm=1.0,
            groups=rules if learn_tau else None,
        )

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
        # The next epoch finds the state with the batch it was traced for.
        self.net.reset(BATCH)
        return right.mean()


def main(argv=None):
    """Train, test, draw; return the results."""
    parser = program.options(
        __doc__, "yinyang", 100, "one epoch of 50 updates, then a checkpoint"
    )
    parser.add_argument("--hidden", type=int, default=170, help="spiking neurons (170)")
    parser.add_argument(
        "--learn-tau",
        action="store_true",
        help="train the time constants of each neuron too",
    )
    args = program.parse(parser, argv)

    data = [sample(n, seed) for n, seed in ((5000, 42), (1000, 41), (10_000, 40))]
    train, valid, test = [(spike_times(x), jnp.asarray(y)) for x, y in data]
    run = Trainer(args.hidden, args.steps, args.seed, args.learn_tau)

    def advance():
        return {"loss": run.epoch(*train), "validation accuracy": run.accuracy(*valid)}

    history = program.train(args, run, advance)
    results = {
        "validation accuracy": float(run.accuracy(*valid)),
        "test accuracy": float(run.accuracy(*test)),
    }
    program.report(args, run, results)
    if args.figure:
        draw(run, history, args.figure)
    return results


# --- the picture

NAMES, COLORS = ("yin", "yang", "dot"), ("#e0a526", "#3f7cac", "#b23a48")


def draw(run, history, filename):
    """Draw the course of training, the decisions, and the response to one sample."""
    plt = program.pyplot()
    figure = plt.figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplot_mosaic([["loss", "map", "spikes"], ["right", "map", "volts"]])
    draw_training(axes["loss"], axes["right"], history)
    draw_decisions(axes["map"], run)
    draw_sample(axes["spikes"], axes["volts"], run)
    program.save_figure(figure, filename)


def draw_training(upper, lower, history):
    """Draw the loss and the validation error, each on its own axis."""
    program.course(upper, history["loss"], color="0.3")
    upper.set(ylabel="training loss (nats)", title="Training", yscale="log")
    upper.tick_params(labelbottom=False)
    error = 1 - history["validation accuracy"]
    program.course(lower, error, color="tab:blue", label="spiking network")
    lower.axhline(1 - 0.643, color="0.6", ls=":", label="linear classifier")
    lower.axhline(
        1 - 0.987, color="0.2", ls="--", label="artificial network, 120 units"
    )
    lower.set(xlabel="epoch", ylabel="validation error")
    lower.set(yscale="log", ylim=(0.008, 8))
    lower.legend(fontsize=7, frameon=False, loc="upper right")


def draw_decisions(axes, run, size=400):
    """Draw the class that the network finds for each point, and the true borders."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    line = np.linspace(0, 1, size, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), -1)

    @bo.jit
    def answers():
        run.net.reset(size)
        rows = jnp.asarray(grid)
        return bo.for_loop(lambda x: run.net.logits(spike_times(x)).argmax(1), rows)

    outside = np.hypot(*np.moveaxis(grid - 0.5, -1, 0)) > 0.5
    truth = np.ma.masked_where(
        outside, classify(grid.reshape(-1, 2)).reshape(size, size)
    )
    shown = np.ma.masked_where(outside, np.asarray(answers()))
    place = {"origin": "lower", "extent": (0, 1, 0, 1)}
    axes.imshow(shown, cmap=ListedColormap(COLORS), vmin=0, vmax=2, **place)
    axes.contour(truth, (0.5, 1.5), colors="k", linewidths=0.7, **place)
    axes.set(title="Decisions; lines: true borders", xlabel="x", ylabel="y")
    patches = [Patch(color=c, label=n) for c, n in zip(COLORS, NAMES, strict=True)]
    axes.legend(handles=patches, fontsize=7, frameon=False, handlelength=1)


def draw_sample(upper, lower, run):
    """Draw the spikes and the readouts of one sample, the middle of the left dot."""
    times = spike_times(np.array([[0.25, 0.5]], np.float32))
    spikes, volts = map(np.asarray, bo.jit(run.net)(times))
    when, which = np.nonzero(spikes[:, 0])
    upper.scatter(when, which, s=3, color="k", linewidths=0)
    upper.set(ylabel="hidden neuron", title="One sample: the left dot")
    upper.set(xlim=(0, STEPS), ylim=(0, spikes.shape[2]))
    upper.tick_params(labelbottom=False)
    for t in np.asarray(times[0]):
        upper.axvline(t, color="tab:red", lw=0.8, alpha=0.6)
    for c, name in enumerate(NAMES):
        lower.plot(volts[:, 0, c], color=COLORS[c], label=name)
    lower.axhline(0, color="0.8", lw=0.8, zorder=0)
    lower.set(xlabel="time (ms); red: input spikes", ylabel="readout (a.u.)")
    lower.set(xlim=(0, STEPS))
    lower.legend(fontsize=7, frameon=False, loc="upper left")


if __name__ == "__main__":
    main()
