# SPDX-License-Identifier: Apache-2.0
"""FORCE: a random network learns to produce a signal, and goes on without learning.

400 rate neurons are connected at random, so strongly that they are near chaos. A
linear readout is fed back into the network and changed at every step by recursive
least squares, so fast that the output follows the target from the start.
When learning stops the network produces the signal alone. Every ten periods a trial of
ten periods without learning shows how well; where its error is below 0.02, learning
ends. The test is the ten periods after such a trial.

    python examples/force_reservoir.py            # draws force_reservoir.png

Source: Sussillo & Abbott 2009, Generating coherent patterns of activity from chaotic
neural networks: architecture A of figure 1, a sum of four sinusoids as the target.
Differs: 400 neurons instead of 1000, fully connected, and a gain of 1.35 instead of
1.5: small networks differ more from each other, and some are too chaotic at 1.5.
"""

import jax.numpy as jnp
import numpy as np
import program

import brainopt as bo

DT, TAU = 1.0, 10.0  # ms
GAIN, NEURONS = 1.35, 400  # large networks are chaotic above 1
PERIOD = 1200  # steps of the target
TESTED = 10  # periods without learning
GOOD = 0.02  # the normalized error of a trial that ends learning


def target(t):
    """Return the signal at step ``t``: four harmonics."""
    phase = 2 * jnp.pi * (t % PERIOD) / PERIOD
    amplitudes = jnp.array([1.0, 0.5, 1 / 6, 1 / 3]) * 1.3 / 1.5
    return amplitudes @ jnp.sin(phase * jnp.arange(1.0, 5.0))


class Reservoir(bo.Node):
    """τ dx/dt = -x + g J r + w_back z, with r = tanh x and the readout z = r·w."""

    def __init__(self, seed):
        rng = bo.RandomState(seed)
        self.j = GAIN * rng.normal((NEURONS, NEURONS)) / np.sqrt(NEURONS)
        self.back = rng.uniform((NEURONS,), minval=-1.0, maxval=1.0)
        self.w = bo.TrainVar(jnp.zeros(NEURONS))
        self.x = bo.Variable(0.5 * rng.normal((NEURONS,)))
        self.z = bo.Variable(0.0)
        self.t = bo.Variable(jnp.zeros((), jnp.int32))

    def step(self):
        """Advance by one step; return the rates."""
        drive = self.j @ jnp.tanh(self.x.value) + self.back * self.z
        self.x.value = self.x + DT / TAU * (drive - self.x)
        rates = jnp.tanh(self.x.value)
        self.z.value = rates @ self.w.value
        self.t.value = self.t + 1
        return rates


class Trainer(bo.Node):
    """Everything a run needs to go on: the network, and the least squares so far."""

    def __init__(self, seed):
        self.net = Reservoir(seed)
        self.opt = bo.optim.RLS(self.net.w, alpha=1.0)

    @bo.jit
    def learn(self):
        """Learn through ten periods; return the mean squared error."""

        def update(_):
            rates = self.net.step()
            error = self.net.z.value - target(self.net.t.value)
            self.opt.update(rates, error)
            self.net.z.value = rates @ self.net.w.value
            return error**2

        return bo.for_loop(update, jnp.arange(TESTED * PERIOD)).mean()

    @bo.jit(static_argnums=1)
    def run(self, periods):
        """Return outputs, targets and four rates ``(steps, …)`` without learning."""

        def step(_):
            rates = self.net.step()
            return self.net.z.value, target(self.net.t.value), rates[:4]

        return bo.for_loop(step, jnp.arange(periods * PERIOD))

    @bo.jit
    def trial(self):
        """Return the normalized error without learning; leave the state as it was."""
        state = self.net.x, self.net.z, self.net.t
        before = [v.value for v in state]
        output, wanted, _ = self.run(TESTED)
        for v, value in zip(state, before, strict=True):
            v.value = value
        return normalized_error(output, wanted)


def normalized_error(output, wanted):
    """Return the root mean square error over that of the target's variation."""
    return jnp.sqrt(jnp.mean((output - wanted) ** 2) / jnp.var(wanted))


def main(argv=None):
    """Let it run, teach it, let it run again; return the results."""
    parser = program.options(
        __doc__,
        "force_reservoir",
        20,
        "ten periods of 1200 updates, and a trial without learning",
    )
    args = program.parse(parser, argv)
    run = Trainer(args.seed)
    before = Trainer(args.seed).run(2)

    def learn():
        return {"squared error": run.learn(), "error of a trial": run.trial()}

    history = program.train(
        args, run, learn, until=lambda history: history["error of a trial"][-1] < GOOD
    )
    output, wanted, rates = (
        np.asarray(x)[TESTED * PERIOD :] for x in run.run(2 * TESTED)
    )
    results = {
        "periods of learning": TESTED * len(history["squared error"]),
        "normalized error": float(normalized_error(output, wanted)),
        "normalized error of the last period": float(
            normalized_error(output[-PERIOD:], wanted[-PERIOD:])
        ),
        "length of the readout weights": float(jnp.linalg.norm(run.net.w.value)),
    }
    program.report(args, run, results)
    if args.figure:
        after = output[-2 * PERIOD :], wanted[-2 * PERIOD :], rates[-2 * PERIOD :]
        draw(map(np.asarray, before), history, after, args.figure)
    return results


def draw(before, history, after, filename):
    """Draw output and rates before and after learning, and the error in between."""
    plt = program.pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(12, 4.5), layout="constrained")
    for column, (output, wanted, rates), title in (
        (0, before, "Before learning"),
        (2, after, f"After: the last 2 of {2 * TESTED} periods"),
    ):
        seconds = np.arange(len(output)) * DT / 1000
        axes[0, column].plot(seconds, wanted, color="0.7", lw=3, label="target")
        axes[0, column].plot(seconds, output, color="tab:red", lw=1, label="output")
        axes[0, column].set(title=title, ylabel="readout (a.u.)", ylim=(-2, 2))
        axes[0, column].legend(fontsize=7, frameon=False, loc="upper right")
        axes[1, column].plot(
            seconds, rates + 2.2 * np.arange(4), color="tab:blue", lw=0.8
        )
        axes[1, column].set(xlabel="time (s)", ylabel="four neurons (rate)", yticks=[])
    periods = TESTED * np.arange(1, len(history["squared error"]) + 1)
    style = {"marker": ".", "color": "tab:red"}
    axes[0, 1].semilogy(periods, np.sqrt(history["squared error"]), **style)
    axes[0, 1].set(ylabel="error while learning", title="Learning", ylim=(1e-4, 1))
    axes[1, 1].semilogy(periods, history["error of a trial"], **style)
    axes[1, 1].axhline(GOOD, color="0.2", ls="--", label=f"learning ends: {GOOD}")
    axes[1, 1].set(xlabel="period", ylabel="error without learning", ylim=(1e-4, 3))
    axes[1, 1].legend(fontsize=7, frameon=False, loc="lower left")
    for row in range(2):
        axes[row, 1].set_xlim(0, periods[-1] + TESTED)
    figure.align_ylabels()
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
