# SPDX-License-Identifier: Apache-2.0
"""A rate network with Dale's law learns two cognitive tasks.

80 excitatory and 20 inhibitory neurons learn one of two tasks from the same parts:

  decision     two noisy streams of evidence; which was stronger?
  comparison   two vibrations, 3 s apart; which had the higher frequency?

Every neuron only excites or only inhibits: the signs of its outgoing weights are a
constraint of the optimizer, so no step can break them. The weights are those of the
best validation during training, and new trials give the accuracy. In the decision the
streams differ by 3.2 to 51.2 % under noise that hides the weak ones; an ideal observer,
who adds up all the evidence there was, is right in 96 % of the trials.

    python examples/dale_rnn.py                       # draws dale_rnn.png
    python examples/dale_rnn.py --task comparison --figure romo.png

Source: Song, Yang & Wang 2016, Training excitatory-inhibitory recurrent neural networks
for cognitive tasks, and its program pycog: the network, the constraint and both tasks;
there training stops at 85 % correct (in the comparison: of the worst condition). Romo
et al. 1999, Neuronal correlates of parametric working memory (the comparison).
Differs: no noise terms in the recurrent weights, Adam with a cosine.
"""

import jax
import jax.numpy as jnp
import numpy as np
import program

import brainopt as bo

N_EXC, N_INH = 80, 20
N = N_EXC + N_INH
DT, TAU = 20.0, 100.0  # ms
ALPHA = DT / TAU
SIGNS = np.where(np.arange(N) < N_EXC, 1.0, -1.0).astype(np.float32)
BATCH, UPDATES = 64, 50  # trials of an update, updates of a step of the program


# --- the tasks: a condition is an index; trials() makes inputs and the right choice


class Decision:
    """Which of two noisy streams is stronger?"""

    fixation, stimulus, choice = 5, 25, 10  # steps of DT
    noise = 0.12  # of each stream and step
    length, decided = fixation + stimulus + choice, fixation + stimulus
    coherences = np.array([0.032, 0.064, 0.128, 0.256, 0.512], np.float32)
    levels = np.concatenate([-coherences[::-1], coherences])  # > 0: the first stream
    labels = tuple(f"{100 * level:+.1f} %" for level in levels)
    first = levels > 0  # the first choice is right

    def trials(self, rng, condition, training):
        """Return inputs (time, batch, 3) for conditions (batch,)."""
        coherence = jnp.asarray(self.levels)[condition]
        t = jnp.arange(self.length)[:, None]
        seen = (t >= self.fixation) & (t < self.decided)
        evidence = jnp.stack([1 + coherence, 1 - coherence], -1) / 2
        noise = self.noise * rng.normal((self.length, len(condition), 2))
        return _inputs(t < self.decided, seen[..., None] * (evidence + noise))

    def ideal(self, level):
        """Return how often the best decision is for the first stream.

        The difference of the streams has the mean c and the variance 2 σ² in each of
        the steps, so its sum has the signal-to-noise ratio c √steps / (σ √2).
        """
        ratio = level * np.sqrt(self.stimulus / 2) / self.noise
        return np.asarray(jax.scipy.stats.norm.cdf(ratio))


class Comparison:
    """Which of two frequencies, 3 s apart, is higher?"""

    fixation, stimulus, delay, choice = 5, 25, 150, 15  # steps of DT
    noise = 0.1
    second = fixation + stimulus + delay  # when the second vibration begins
    decided = second + stimulus
    length = decided + choice
    high = np.array(
        [18.0, 22.0, 26.0, 30.0, 34.0], np.float32
    )  # Hz; the other is 8 less
    pairs = np.concatenate(
        [np.stack([high, high - 8], 1), np.stack([high - 8, high], 1)]
    )
    labels = tuple(f"{a:.0f}, {b:.0f}" for a, b in pairs)
    first = pairs[:, 0] > pairs[:, 1]

    def trials(self, rng, condition, training):
        """Return inputs (time, batch, 3) for conditions (batch,).

        The delay is 3 s; in training it is anything from 0 to 3 s, so that what is
        learned at short delays helps with long ones.
        """
        longest = self.second - self.stimulus
        onset = jnp.full(len(condition), self.fixation)
        if training:
            onset = rng.randint((len(condition),), self.fixation, longest + 1)
        scaled = (jnp.asarray(self.pairs)[condition] - 10.0) / 24.0
        t = jnp.arange(self.length)[:, None, None]
        begin = onset[None, :, None]
        shown = ((t >= begin) & (t < begin + self.stimulus)) * 1.0
        again = ((t >= self.second) & (t < self.decided)) * 1.0
        # One input rises with the frequency, the other falls.
        tuned = jnp.stack([0.4 + 0.8 * scaled, 1.2 - 0.8 * scaled], -1)
        streams = shown * tuned[:, 0] + again * tuned[:, 1]
        noise = self.noise * rng.normal(streams.shape)
        return _inputs(t[..., 0] < self.decided, streams + (shown + again) * noise)


def _inputs(fixation, streams):
    fixation = jnp.broadcast_to(fixation * 1.0, streams.shape[:2])
    return jnp.concatenate([fixation[..., None], streams], -1)


TASKS = {"decision": Decision, "comparison": Comparison}


# --- the network


class Network(bo.Node):
    """x ← (1 - α) x + α (W r + W_in u + b) + noise, with the rates r = max(x, 0)."""

    def __init__(self, seed):
        self.rng = bo.RandomState(seed)
        weights = self.rng.gamma(2.0, (N, N)) * SIGNS
        # Inhibition balances excitation, and the spectral radius is 1.3.
        weights = weights * np.where(SIGNS > 0, 1.0, N_EXC / N_INH).astype(np.float32)
        radius = np.abs(np.linalg.eigvals(np.asarray(weights))).max()
        self.w_rec = bo.TrainVar(weights * (1.3 / radius))
        self.w_in = bo.TrainVar(self.rng.uniform((3, N), maxval=0.3))
        self.w_out = bo.TrainVar(self.rng.uniform((N, 2), maxval=0.05))
        self.bias = bo.TrainVar((N,))
        self.x = bo.Variable((BATCH, N), batch_axis=0)

    def __call__(self, inputs):
        """Return outputs (time, batch, 2) and mean rates (time, N)."""
        self.x.value = jnp.zeros((inputs.shape[1], N))
        return bo.for_loop(self.step, inputs)

    def step(self, u):
        rates = jax.nn.relu(self.x.value)
        drive = rates @ self.w_rec.value.T + u @ self.w_in.value + self.bias.value
        noise = 0.05 * self.rng.normal(self.x.shape)
        self.x.value = (1 - ALPHA) * self.x.value + ALPHA * drive + noise
        rates = jax.nn.relu(self.x.value)
        # Only excitatory neurons project out of the network.
        return rates * (SIGNS > 0) @ self.w_out.value, rates.mean(0)


# --- training


class Trainer(bo.Node):
    """Everything a run needs to go on, the best weights so far included."""

    def __init__(self, task, steps, seed):
        self.task = task
        self.net, self.rng = Network(seed), bo.RandomState(seed + 1)
        lr = bo.optim.CosineAnnealingLR(5e-3, steps * UPDATES, clock="step")
        rules = [
            {"match": "w_rec", "sign": SIGNS},  # one sign for each column: the sender
            {"match": ["w_in", "w_out"], "sign": 1.0},
            {"match": "bias", "lr_mult": 0.1, "weight_decay": 0.0},
        ]
        self.opt = bo.optim.AdamW(
            lr, self.net, weight_decay=1e-4, clip_norm=1.0, groups=rules
        )
        self.best = [bo.Variable(v.value) for v in self.net.train_vars().values()]
        self.best_score = bo.Variable(0.0)

    def loss(self, condition):
        """Return the cross entropy; the choice counts five times the last stimulus."""
        task = self.task
        outputs, _ = self.net(task.trials(self.rng, condition, training=True))
        right = jnp.where(jnp.asarray(task.first)[condition], 0, 1)
        t = jnp.arange(task.length)
        weight = 1.0 * (t >= task.decided) + 0.2 * (
            (t >= task.decided - task.stimulus) & (t < task.decided)
        )
        log_p = jax.nn.log_softmax(outputs)[:, jnp.arange(len(right)), right]
        silent = (outputs[: task.fixation] ** 2).mean()
        return silent - (weight * log_p.mean(1)).sum() / weight.sum()

    @bo.jit
    def train(self):
        """Make 50 updates; return the mean loss."""

        def update(_):
            condition = self.rng.randint((BATCH,), 0, len(self.task.first))
            gradient = bo.grad(self.loss, self.net.train_vars(), return_value=True)
            grads, value = gradient(condition)
            self.opt.update(grads)
            return value

        return bo.for_loop(update, jnp.arange(UPDATES)).mean()

    @bo.jit(static_argnums=1)
    def chosen_first(self, count, seed):
        """Return how often the first choice is made in ``count`` trials a condition."""
        conditions = jnp.repeat(jnp.arange(len(self.task.first)), count)
        unseen = bo.RandomState(seed)
        outputs, _ = self.net(self.task.trials(unseen, conditions, training=False))
        chosen = outputs[self.task.decided :].mean(0).argmax(-1)
        # The next update finds the state with the batch it was traced for.
        self.net.x.value = jnp.zeros((BATCH, N))
        return 1 - chosen.reshape(-1, count).mean(1)

    def score(self, count, seed):
        """Return the fraction of right choices in each condition."""
        to_first = np.asarray(self.chosen_first(count, seed))
        return np.where(self.task.first, to_first, 1 - to_first)

    @bo.jit
    def keep_if_best(self, score):
        """Keep the weights where the validation has risen."""
        better = score > self.best_score
        for kept, now in zip(self.best, self.net.train_vars().values(), strict=True):
            kept.value = jnp.where(better, now.value, kept.value)
        self.best_score.value = jnp.maximum(score, self.best_score.value)

    def choose_best(self):
        """Put the kept weights into the network."""
        for kept, now in zip(self.best, self.net.train_vars().values(), strict=True):
            now.value = kept.value


def main(argv=None):
    """Train, select, test, draw; return the results."""
    parser = program.options(
        __doc__, "dale_rnn", 16, "50 updates, a validation and a checkpoint", seed=0
    )
    parser.add_argument(
        "--task", choices=TASKS, default="decision", help="what to learn (decision)"
    )
    args = program.parse(parser, argv)
    task = TASKS[args.task]()
    run = Trainer(task, args.steps, args.seed)

    def advance():
        loss, valid = run.train(), float(run.score(200, args.seed + 2).mean())
        run.keep_if_best(valid)
        return {"loss": loss, "validation": valid}

    program.train(args, run, advance)
    run.choose_best()
    to_first = np.asarray(run.chosen_first(1000, args.seed + 3))
    right = np.where(task.first, to_first, 1 - to_first)
    results = {
        "accuracy": float(right.mean()),
        "worst condition": float(right.min()),
        "weights that break Dale's law": int((run.net.w_rec.value * SIGNS < 0).sum()),
    }
    if args.task == "decision":
        ideal = task.ideal(task.levels)
        results["ideal observer"] = float(np.where(task.first, ideal, 1 - ideal).mean())
    program.report(args, run, results)
    if args.figure:
        draw(run, to_first, args.figure)
    return results


# --- the picture


def draw(run, to_first, filename):
    """Draw the choices with error bars, the weights by sign, and the mean rates."""
    plt = program.pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    draw_choices(axes[0], run.task, to_first)
    weights = np.asarray(run.net.w_rec.value)
    limit = np.quantile(np.abs(weights), 0.99)
    image = axes[1].imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[1].axvline(N_EXC - 0.5, color="k", lw=0.8)
    axes[1].axhline(N_EXC - 0.5, color="k", lw=0.8)
    axes[1].set(xlabel="from: excitatory | inhibitory", ylabel="to", title="Weights")
    figure.colorbar(image, ax=axes[1], label="recurrent weight (a.u.)")
    draw_rates(axes[2], run)
    program.save_figure(figure, filename)


def draw_choices(axes, task, to_first, count=1000):
    """Draw how often the first choice is made, ± 2 standard errors of a share."""
    error = 2 * np.sqrt(np.maximum(to_first * (1 - to_first), 1e-6) / count)
    style = {"fmt": "o", "color": "tab:blue", "ms": 4, "label": "network"}
    if isinstance(task, Decision):
        fine = np.linspace(task.levels[0], task.levels[-1], 401)
        axes.plot(100 * fine, task.ideal(fine), color="0.7", label="ideal observer")
        axes.errorbar(100 * task.levels, to_first, error, **style)
        axes.set(xlabel="coherence (%)", ylabel="share of choices of the first stream")
    else:
        right = np.where(task.first, to_first, 1 - to_first)
        axes.errorbar(range(len(right)), 100 * right, 100 * error, **style)
        axes.axhline(85, color="0.5", ls="--", label="pycog stops here")
        axes.set_xticks(range(len(right)), task.labels, rotation=60, fontsize=8)
        axes.set(xlabel="first, second frequency (Hz)", ylabel="right choices (%)")
        axes.set_ylim(45, 102)
    axes.set(title="Test: 1000 trials a condition")
    axes.legend(frameon=False, fontsize=8)


def draw_rates(axes, run):
    """Draw the mean rate of both populations in a trial of two conditions."""
    task, seconds = run.task, np.arange(run.task.length) * DT / 1000
    for condition, style in ((0, "-"), (len(task.first) - 1, "--")):
        which = jnp.full(BATCH, condition)
        inputs = task.trials(bo.RandomState(0), which, training=False)
        rates = np.asarray(bo.jit(run.net)(inputs)[1])
        for name, part, color in (
            ("excitatory", rates[:, :N_EXC], "tab:red"),
            ("inhibitory", rates[:, N_EXC:], "tab:blue"),
        ):
            label = f"{name}, {task.labels[condition]}"
            axes.plot(seconds, part.mean(1), style, color=color, lw=1, label=label)
    axes.axvline(task.decided * DT / 1000, color="0.7", lw=0.8)
    axes.set(xlabel="time (s); line: the choice begins", ylabel="mean rate (a.u.)")
    axes.set_title("Two conditions, 64 trials each")
    axes.legend(frameon=False, fontsize=7)


if __name__ == "__main__":
    main()
