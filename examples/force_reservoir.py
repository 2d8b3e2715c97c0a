# SPDX-License-Identifier: Apache-2.0
"""FORCE: a chaotic network learns to produce a signal, and goes on without learning.

400 rate neurons are connected at random so strongly that their activity is chaotic. A
linear readout is fed back into the network and changed at every step by recursive
least squares, so fast that the output follows the target from the start.
When learning stops the network produces the signal alone.

    python examples/force_reservoir.py            # draws force_reservoir.png

Source: Sussillo & Abbott 2009, Generating coherent patterns of activity from chaotic
neural networks: architecture A of figure 1, a sum of four sinusoids as the target.
Differs: 400 neurons instead of 1000; full connections instead of a tenth of them.
"""

import jax.numpy as jnp
import numpy as np
import program

import brainopt as bo

DT, TAU = 1.0, 10.0  # ms
GAIN, NEURONS = 1.5, 400  # above 1 the network is chaotic
PERIOD = 1200  # steps of the target
TESTED = 10  # periods without learning


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
        """Learn through one period; return the mean squared error."""

        def update(_):
            rates = self.net.step()
            error = self.net.z.value - target(self.net.t.value)
            self.opt.update(rates, error)
            self.net.z.value = rates @ self.net.w.value
            return error**2

        return bo.for_loop(update, jnp.arange(PERIOD)).mean()

    @bo.jit(static_argnums=1)
    def run(self, periods):
        """Return outputs, targets and four rates ``(steps, …)`` without learning."""

        def step(_):
            rates = self.net.step()
            return self.net.z.value, target(self.net.t.value), rates[:4]

        return bo.for_loop(step, jnp.arange(periods * PERIOD))


def normalized_error(output, wanted):
    """Return the root mean square error over that of the target's variation."""
    return float(np.sqrt(np.mean((output - wanted) ** 2) / np.var(wanted)))


def main(argv=None):
    """Let it run, teach it, let it run again; return the results."""
    parser = program.options(
        __doc__, "force_reservoir", 90, "one period of the target, 1200 updates"
    )
    args = program.parse(parser, argv)
    run = Trainer(args.seed)
    before = Trainer(args.seed).run(2)

    def learn():
        return {"squared error": run.learn()}

    history = program.train(args, run, learn, every=min(10, args.steps))
    output, wanted, rates = map(np.asarray, run.run(TESTED))
    results = {
        "normalized error": normalized_error(output, wanted),
        "normalized error of the last period": normalized_error(
            output[-PERIOD:], wanted[-PERIOD:]
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
        (2, after, f"After: the last 2 of {TESTED} periods"),
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
    error = np.sqrt(history["squared error"])
    axes[0, 1].semilogy(
        np.arange(1, len(error) + 1), error, ".-", color="tab:red", ms=3
    )
    axes[0, 1].set(xlabel="period", ylabel="error while learning", title="Learning")
    axes[1, 1].axis("off")
    axes[0, 1].set_ylim(1e-4, 1)
    figure.align_ylabels()
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
