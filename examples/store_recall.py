# SPDX-License-Identifier: Apache-2.0
"""Adaptive spiking neurons keep a bit over seconds; gradients through 2,400 steps.

A trial is 12 symbols of 200 ms. Every symbol shows a bit; a store command beside it
says that this bit is to be kept, and a recall command later asks for it. The memory of
a leaky integrate-and-fire neuron is some 20 ms, so it must come from the thresholds of
the adaptive ones, which rise with each spike and take 1.2 s to fall again.

    python examples/store_recall.py               # train, draw store_recall.png
    python examples/store_recall.py --lif         # without adaptation: does not learn

Backpropagation through 2,400 steps keeps the state at the begin of each symbol, and
computes the 200 steps of a symbol again on the way back (``remat``); the input spikes
are booleans. So an update needs tens of megabytes, not hundreds.

The network goes on from one trial to the next without a reset, and the gradient ends
where the trial began. So no trial begins with a clean memory, and what an earlier bit
left in the thresholds must never be taken for the bit that is asked for.

Source: Bellec et al. 2018, Long short-term memory and learning-to-learn in networks of
spiking neurons (task and neurons). The trials, their order without a reset, the sizes
and the bar are those of tutorial_storerecall_with_LSNN of its authors: 10 + 10 neurons,
batches of 128, solved when the recall error is below 0.05 within 200 updates.
Differs: no delays of synapses, weaker weights at the start, a larger readout with a
bias, a stronger penalty on the distance of rates from 10 Hz, clipped gradients, a
cosine of the learning rate; training ends at an error of 0.02 over 20 updates.

Measured: all of ten fresh seeds (10 to 19) are solved, after 28 to 94 updates; their
errors on 2,048 new trials are 0.000 to 0.008. Without adaptation the error is that of
guessing after 200 updates (three seeds). A run takes 30 to 60 s of a processor, an
update 49 MB.
"""

import jax
import jax.numpy as jnp
import numpy as np
import program
from surrogates import triangle

import brainopt as bo

SYMBOLS, SYMBOL, DT = 12, 200, 1.0  # symbols of a trial, steps of a symbol, ms
CHANNELS, INPUTS, NEURONS = 4, 100, 20  # bit 0, bit 1, store, recall; half adapt
COMMAND = 1 / 7  # the chance of a command, store or recall, at each symbol
RATE = 50.0  # Hz, of an input neuron whose channel is on
BATCH = 128
TARGET_RATE = 10.0  # Hz, of each neuron
THRESHOLD, STRENGTH, REFRACTORY = 0.01, 1.7, 3.0  # a.u., a.u., ms
TAU_V, TAU_A, TAU_OUT = 20.0, 1200.0, 20.0  # ms: membrane, adaptation, readout


# --- the task


def trials(rng, n):
    """Return channels ``(symbols, n, 4)`` and the bit to recall ``(symbols, n)``.

    The bit is -1 where none is asked for. Every trial has a recall, none ends with a
    bit still stored, and at least one symbol lies between a store and its recall.
    """
    # A quarter of all sequences is like that, so 16 times as many are enough.
    chance = rng.uniform((SYMBOLS, 16 * n))
    bits = rng.randint((SYMBOLS, 16 * n), 0, 2)

    def symbol(kept, shown):
        u, bit = shown
        store, recall = (kept < 0) & (u < COMMAND), (kept >= 0) & (u < COMMAND)
        target = jnp.where(recall, kept, -1)
        on = jnp.stack([~recall & (bit == 0), ~recall & (bit == 1), store, recall], -1)
        return jnp.where(store, bit, jnp.where(recall, -1, kept)), (on * 1.0, target)

    start = jnp.full(16 * n, -1, bits.dtype)
    kept, (channels, target) = jax.lax.scan(symbol, start, (chance, bits))
    store, recall = channels[..., 2] > 0, channels[..., 3] > 0
    hasty = (store[:-1] & recall[1:]).any(0)
    chosen = jnp.argsort(hasty | (kept >= 0) | ~recall.any(0))[:n]
    return channels[:, chosen], target[:, chosen]


# --- the network


class Network(bo.Node):
    """Recurrent spiking neurons, the second half with adaptive thresholds."""

    def __init__(self, seed, adaptive=True):
        self.rng = rng = bo.RandomState(seed)
        self.w_in = bo.TrainVar(rng.normal((INPUTS, NEURONS)) * 0.5 / np.sqrt(INPUTS))
        # With larger ones a spike sets off the next, and the training is less sure.
        weak = 0.3 / np.sqrt(NEURONS)
        self.w_rec = bo.TrainVar(weak * rng.normal((NEURONS, NEURONS)))
        self.w_out = bo.TrainVar(rng.normal((NEURONS, 2)) / np.sqrt(NEURONS))
        self.bias = bo.TrainVar(jnp.zeros(2))
        half = np.arange(NEURONS) >= NEURONS // 2
        self.strength = np.where(half & adaptive, STRENGTH, 0.0).astype(np.float32)
        shape = (BATCH, NEURONS)
        self.v = bo.Variable(jnp.zeros(shape), batch_axis=0)
        self.a = bo.Variable(jnp.zeros(shape), batch_axis=0)
        self.z = bo.Variable(jnp.zeros(shape), batch_axis=0)
        self.wait = bo.Variable(jnp.zeros(shape), batch_axis=0)
        self.out = bo.Variable(jnp.zeros(shape), batch_axis=0)

    def threshold(self):
        """Return the threshold of each neuron, ``(n, neurons)``."""
        return THRESHOLD + self.strength * self.a

    def step(self, drive):
        """Take the input current ``(n, neurons)``; return filtered and raw spikes."""
        keep_v, keep_a = np.exp(-DT / TAU_V), np.exp(-DT / TAU_A)
        keep_out = np.exp(-DT / TAU_OUT)
        threshold = self.threshold()
        w_rec = self.w_rec.value * (1 - np.eye(NEURONS, dtype=np.float32))
        drive = drive + self.z.value @ w_rec
        self.v.value = keep_v * self.v + (1 - keep_v) * drive - self.z * threshold
        free = self.wait.value <= 0
        z = triangle((self.v - threshold) / threshold) * free
        rest = jnp.maximum(self.wait - 1, 0)
        self.wait.value = jnp.where(jax.lax.stop_gradient(z) > 0, REFRACTORY / DT, rest)
        self.a.value = keep_a * self.a + (1 - keep_a) * z
        self.out.value = keep_out * self.out + z
        self.z.value = z
        return self.out.value, z

    def input_spikes(self, channels):
        """Draw the spikes of both bits, or of both commands, of a symbol.

        Of two such channels one is on at most. Returns booleans ``(steps, n, 2, 25)``.
        """
        shape = SYMBOL, channels.shape[0], 2, INPUTS // CHANNELS
        return self.rng.uniform(shape) < RATE * DT / 1000

    def current(self, channels, fires):
        """Return the input current of a symbol, ``(steps, n, neurons)``."""
        fires = jnp.repeat(fires, 2, axis=2) & (channels > 0)[:, :, None]
        return fires.reshape(*fires.shape[:2], INPUTS) * 1.0 @ self.w_in.value

    def symbol(self, channels, fires):
        """Show one symbol; return the mean voltage of the readouts, and rates in Hz."""
        out, z = bo.for_loop(self.step, self.current(channels, fires))
        logits = 3 * out.mean(0) @ self.w_out.value + self.bias.value
        return logits, z.mean((0, 1)) * 1000 / DT

    def __call__(self, channels, fires):
        """Return logits ``(symbols, n, 2)`` and firing rates ``(neurons,)`` in Hz."""
        logits, rates = bo.for_loop(self.symbol, (channels, fires), remat=True)
        return logits, rates.mean(0)


# --- training


def recall_error(logits, target):
    """Return the fraction of recalls that gave the wrong bit."""
    asked = target >= 0
    return (asked & (logits.argmax(-1) != target)).sum() / asked.sum()


class Trainer(bo.Node):
    """Everything a run needs to go on: the network, its optimizer, the random state."""

    def __init__(self, updates, seed, adaptive=True):
        self.net = Network(seed, adaptive)
        self.rng = bo.RandomState(seed + 1000)
        rate = bo.optim.CosineAnnealingLR(0.01, updates, 2e-4, clock="step")
        self.opt = bo.optim.Adam(rate, self.net, clip_norm=0.3)

    def batch(self):
        """Return channels, input spikes and targets of one new batch."""
        channels, target = trials(self.rng, BATCH)
        # Drawn before the gradient, so that the way back does not draw them again.
        return channels, bo.for_loop(self.net.input_spikes, channels), target

    @bo.jit
    def update(self):
        """Train on one new batch; return the loss, the recall error and the rate."""
        channels, fires, target = self.batch()

        def loss():
            logits, rates = self.net(channels, fires)
            logp = jax.nn.log_softmax(logits)
            picked = jnp.take_along_axis(logp, jnp.maximum(target, 0)[..., None], -1)
            asked = target >= 0
            entropy = -(asked * picked[..., 0]).sum() / asked.sum()
            # Without the second term the rates grow to 100 Hz and more, the error sways
            # between 0.05 and 0.15, and some neurons fall silent for good.
            cost = entropy + 0.1 * ((rates / TARGET_RATE - 1) ** 2).mean()
            return cost, (recall_error(logits, target), rates.mean())

        gradient = bo.grad(loss, self.net, return_value=True, has_aux=True)
        grads, value, (error, rate) = gradient()
        self.opt.update(grads)
        return value, error, rate

    @bo.jit
    def test(self):
        """Return the recall error of one new batch."""
        channels, fires, target = self.batch()
        return recall_error(self.net(channels, fires)[0], target)


def main(argv=None):
    """Train, test, draw; return the results."""
    parser = program.options(
        __doc__, "store_recall", 200, "one update with a new batch of 128 trials"
    )
    parser.add_argument("--lif", action="store_true", help="no neuron adapts")
    args = program.parse(parser, argv)
    run = Trainer(args.steps, args.seed, adaptive=not args.lif)

    def advance():
        loss, error, rate = run.update()
        return {"loss": loss, "recall error": error, "rate (Hz)": rate}

    memory = run.update.lower().compile().memory_analysis()
    # Every batch is new, so the last ones are as good as a validation set.
    history = program.train(
        args,
        run,
        advance,
        every=min(10, args.steps),
        until=lambda history: history["recall error"][-20:].mean() < 0.02,
    )
    errors = history["recall error"]
    means = [errors[k - 20 : k].mean() for k in range(20, len(errors) + 1)]
    solved = np.flatnonzero(np.array(means) < 0.05)
    results = {
        "updates": len(errors),
        "solved after": int(solved[0]) + 20 if len(solved) else None,
        "test recall error": float(np.mean([float(run.test()) for _ in range(16)])),
        "temporaries of an update (MB)": memory.temp_size_in_bytes / 1e6,
    }
    program.report(args, run, results)
    if args.figure:
        draw(run, history, args.figure)
    return results


def record(net, channels, trial):
    """Return input spikes, spikes, thresholds and readouts of one trial, by step."""

    def symbol(shown):
        fires = net.input_spikes(shown)
        spikes = jnp.repeat(fires[:, trial], 2, 1) & (shown[trial] > 0)[:, None]

        def tick(drive):
            out, z = net.step(drive)
            logits = 3 * out[trial] @ net.w_out.value + net.bias.value
            return z[trial], net.threshold()[trial], logits

        return spikes.reshape(SYMBOL, -1), bo.for_loop(tick, net.current(shown, fires))

    spikes, recorded = bo.for_loop(symbol, channels)
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), (spikes, *recorded))
    return map(np.asarray, flat)


def draw(run, history, filename):
    """Draw the course of training, and one trial: input, spikes, thresholds, bit."""
    plt = program.pyplot()
    channels, target = map(np.asarray, trials(bo.RandomState(5), BATCH))
    delay = (target >= 0).argmax(0) - (channels[..., 2] > 0).argmax(0)
    trial = int(delay.argmax())
    inputs, spikes, threshold, logits = record(run.net, jnp.asarray(channels), trial)
    seconds = np.arange(len(spikes)) * DT / 1000

    figure = plt.figure(figsize=(11, 6), layout="constrained")
    names = ("input", "spikes", "threshold", "readout")
    ratios = {"width_ratios": (2.2, 1), "height_ratios": (1.3, 1, 1, 1)}
    panels = figure.subplot_mosaic("0T;1T;2T;3T", gridspec_kw=ratios)
    axes = {name: panels[str(k)] for k, name in enumerate(names)}
    training = panels["T"]
    for name, raster in (("input", inputs), ("spikes", spikes)):
        when, which = np.nonzero(raster)
        axes[name].scatter(seconds[when], which, s=1.5, color="k", linewidths=0)
    centres = [INPUTS // CHANNELS * (k + 0.5) for k in range(CHANNELS)]
    axes["input"].set_yticks(centres, ("bit 0", "bit 1", "store", "recall"))
    axes["input"].set_title("One trial: the bit is stored, then recalled")
    axes["spikes"].set_yticks((4.5, 14.5), ("LIF", "adaptive"))
    axes["spikes"].axhline(NEURONS // 2 - 0.5, color="0.7", lw=0.8)
    axes["threshold"].plot(seconds, threshold[:, NEURONS // 2 :], lw=0.8)
    axes["threshold"].set(ylabel="thresholds (a.u.)")
    chance = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    axes["readout"].plot(seconds, chance, color="0.6", lw=0.6, label="readout")
    draw_bits(axes["readout"], channels[:, trial], target[:, trial])
    axes["readout"].set(ylabel="bit", ylim=(-0.1, 1.1), xlabel="time (s)")
    axes["readout"].legend(fontsize=7, frameon=False, loc="lower center", ncols=3)
    for name in names:
        axes[name].set_xlim(0, seconds[-1])
        axes[name].tick_params(labelbottom=name == "readout")

    errors = history["recall error"]
    program.course(training, errors, color="0.75", lw=0.8)
    window = min(20, len(errors))
    mean = np.convolve(errors, np.ones(window) / window, "valid")
    label = f"mean of {window} updates"
    program.course(training, mean, window, color="tab:blue", label=label)
    training.axhline(0.05, color="0.2", ls="--", label="solved: 0.05")
    training.set(xlabel="update", ylabel="recall error", title="Training")
    training.set_ylim(0, 0.6)
    training.legend(fontsize=8, frameon=False)
    program.save_figure(figure, filename)


def draw_bits(axes, channels, target):
    """Draw which bit is stored from when to when, and mark where it is asked for."""
    kept = None
    for k in range(SYMBOLS):
        begin, end = k * SYMBOL * DT / 1000, (k + 1) * SYMBOL * DT / 1000
        if channels[k, 2] > 0:
            kept = int(channels[k, 1] > 0)
        if target[k] >= 0:
            axes.axvspan(begin, end, color="tab:orange", alpha=0.25, lw=0)
            axes.plot((begin, end), (kept, kept), color="tab:orange", lw=4)
            kept = None
        elif kept is not None:
            axes.plot((begin, end), (kept, kept), color="tab:blue", lw=2)
    axes.plot([], [], color="tab:blue", lw=2, label="stored bit")
    axes.plot([], [], color="tab:orange", lw=4, label="recalled")


if __name__ == "__main__":
    main()
