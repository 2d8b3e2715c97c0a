# SPDX-License-Identifier: Apache-2.0
"""Fit the conductances of a Hodgkin-Huxley cell to voltage traces, with error bars.

The maximal sodium and potassium conductances start wrong and are found from three
recordings. Adam goes down the difference of smoothed traces, within the bounds of a
real membrane; Levenberg-Marquardt then fits the traces themselves, by the Jacobian that
``bo.jacfwd`` gives, and the same Jacobian gives the standard errors of the estimates.

    python examples/fit_hh.py                           # traces without noise
    python examples/fit_hh.py --noise 1 --repetitions 20
    python examples/fit_hh.py --jaxley                  # a cell of jaxley, attached

Source: Hodgkin & Huxley 1952, with the resting potential at -65 mV; Rush & Larsen 1978
for the step of the gates; Marquardt 1963 for the fit; Seber & Wild 1989, Nonlinear
regression, for the standard errors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import program

import brainopt as bo

DT, DURATION, ONSET = 0.025, 15.0, 2.0  # ms
AMPLITUDES = jnp.array([3.0, 7.0, 12.0])  # µA/cm²
ON = jnp.arange(int(DURATION / DT)) * DT > ONSET
TRUTH, START = (120.0, 36.0), (90.0, 50.0)  # sodium and potassium, mS/cm²
NAMES = "g_Na", "g_K"
BOUNDS = (20.0, 250.0), (5.0, 100.0)  # mS/cm²


class Cell(bo.Node):
    """One compartment; ``g_na`` and ``g_k`` in mS/cm² are trained."""

    def __init__(self, g_na, g_k):
        self.g_na = bo.TrainVar(jnp.array(g_na))
        self.g_k = bo.TrainVar(jnp.array(g_k))

    def __call__(self, current):
        """Return the voltage (time, cells) in mV for currents (cells,) in µA/cm²."""
        v = jnp.full(current.shape, -65.0)
        gates = tuple(a / (a + b) for a, b in rates(v))

        def step(state, on):
            v, gates = state
            m, h, n = gates = tuple(map(toward, gates, rates(v)))
            ionic = self.g_na.value * m**3 * h * (v - 50.0)
            ionic += self.g_k.value * n**4 * (v + 77.0) + 0.3 * (v + 54.387)
            v = v + DT * (on * current - ionic)
            return (v, gates), v

        return bo.scan(step, (v, gates), ON)[1]


def rates(v):
    """Return the opening and closing rates (1/ms) of the gates m, h and n."""
    m = linoid(0.1, v + 40.0), 4.0 * jnp.exp(-(v + 65.0) / 18.0)
    h = 0.07 * jnp.exp(-(v + 65.0) / 20.0), 1 / (1 + jnp.exp(-(v + 35.0) / 10.0))
    n = linoid(0.01, v + 55.0), 0.125 * jnp.exp(-(v + 65.0) / 80.0)
    return m, h, n


def linoid(a, x):
    """Return a x / (1 - exp(-x / 10)), which is 10 a where x is 0."""
    safe = jnp.where(jnp.abs(x) < 1e-4, 1.0, x)
    return jnp.where(jnp.abs(x) < 1e-4, a * 10.0, a * safe / -jnp.expm1(-safe / 10.0))


def toward(gate, rate):
    """Return a gate after one step: exact for a constant voltage."""
    alpha, total = rate[0], rate[0] + rate[1]
    return alpha / total + (gate - alpha / total) * jnp.exp(-DT * total)


def smooth(v):
    """Low-pass a trace (time, cells) with 1 ms, so that nearby spikes attract."""
    kernel = jnp.exp(-0.5 * (jnp.arange(-120, 121) * DT) ** 2)
    kernel /= kernel.sum()
    return jax.vmap(lambda x: jnp.convolve(x, kernel, "same"), 1, 1)(v)


class Fit(bo.Node):
    """The conductances, the recording that they have to meet, and the optimizer.

    Args:
        net: The node whose two trained variables are the conductances.
        simulate: Returns the voltage (time, cells) in mV for these conductances.
        unit: How many mS/cm² the unit of the conductances is.
        steps: The updates of Adam.
    """

    def __init__(self, net, simulate, unit, steps):
        self.net, self.simulate, self.unit = net, simulate, unit
        trained = net.train_vars()
        rules = [
            {"match": name, "bounds": (low / unit, high / unit)}
            for name, (low, high) in zip(trained, BOUNDS, strict=True)
        ]
        self.set(TRUTH)
        self.recording = bo.Variable(self.simulate())
        self.set(START)
        lr = bo.optim.CosineAnnealingLR(3.0 / unit, steps, clock="step")
        self.opt = bo.optim.Adam(lr, trained, beta2=0.9, groups=rules)

    def set(self, conductances):
        """Set sodium and potassium, in mS/cm²."""
        for var, g in zip(self.net.train_vars().values(), conductances, strict=True):
            var.value = jnp.full_like(var.value, g / self.unit)

    def get(self):
        """Return sodium and potassium, in mS/cm²."""
        trained = self.net.train_vars().values()
        return np.array([float(v.value.sum()) * self.unit for v in trained])

    @bo.jit
    def step(self):
        """Make one update of Adam; return the loss in mV²."""

        def loss():
            error = smooth(self.simulate()) - smooth(self.recording.value)
            return (error**2).mean()

        grads, value = bo.grad(loss, self.net.train_vars(), return_value=True)()
        self.opt.update(grads)
        return value

    @bo.jit
    def linearize(self):
        """Return the residuals in mV and their derivatives by the conductances."""

        def residuals():
            return (self.simulate() - self.recording.value).ravel()

        trained = self.net.train_vars()
        jac, value = bo.jacfwd(residuals, trained, return_value=True)()
        columns = [jac[name].reshape(value.shape) for name in trained]
        return value, jnp.stack(columns, 1)

    def linearized(self):
        """Do so in float64, for conductances in mS/cm²."""
        value, jac = (np.asarray(x, np.float64) for x in self.linearize())
        return value, jac / self.unit

    def refine(self, steps=20):
        """Go on by Levenberg-Marquardt; return the standard errors in mS/cm²."""
        damping, (value, jac) = 1e-3, self.linearized()
        for _ in range(steps):
            before, square = self.get(), jac.T @ jac
            damped = square + damping * np.diag(np.diag(square))
            move = -np.linalg.solve(damped, jac.T @ value)
            self.set(before + move)
            new_value, new_jac = self.linearized()
            if new_value @ new_value < value @ value:
                value, jac, damping = new_value, new_jac, damping / 10
            else:
                self.set(before)
                damping *= 10
            if np.abs(move / before).max() < 1e-6:
                break
        variance = value @ value / (len(value) - jac.shape[1])
        return np.sqrt(np.diag(np.linalg.inv(jac.T @ jac)) * variance)


def our_fit(steps):
    """Return the fit of a cell with the integrator above."""
    cell = Cell(*START)
    return Fit(cell, lambda: cell(AMPLITUDES), 1.0, steps)


def jaxley_fit(steps):
    """Return that of a jaxley cell, whose parameters are a list of dicts (S/cm²)."""
    program.require("jaxley", "jaxley")
    import jaxley as jx
    from jaxley.channels import HH

    cell = jx.Cell()
    cell.insert(HH())
    cell.record("v", verbose=False)
    for name in ("HH_gNa", "HH_gK"):
        cell.make_trainable(name, verbose=False)
    area = 2 * jnp.pi * float(cell.nodes["radius"][0]) * float(cell.nodes["length"][0])

    def simulate():
        def trace(amplitude):  # µA/cm² on µm² is 1e-5 nA
            stimuli = cell.data_stimulate(ON * amplitude * area * 1e-5)
            return jx.integrate(
                cell, params=net.model, data_stimuli=stimuli, delta_t=DT
            )

        return jnp.stack([trace(amplitude)[0] for amplitude in AMPLITUDES], 1)

    net = bo.attach([{"HH_gNa": jnp.array([0.09])}, {"HH_gK": jnp.array([0.05])}])
    return Fit(net, simulate, 1000.0, steps)


def repeat(fit, fresh, args, rng):
    """Return estimates and standard errors (repetitions, 2) for new noise each time."""
    found = []
    for k in range(args.repetitions):
        fit.load_state_dict(fresh)
        fit.recording.value += args.noise * rng.normal(fit.recording.shape)
        for _ in range(args.steps):
            fit.step()
        errors = fit.refine()
        found.append((fit.get(), errors))
        shown = "  ".join(f"{g:.3f} ± {e:.3f}" for g, e in zip(*found[-1], strict=True))
        print(f"repetition {k + 1:2d}: g_Na, g_K {shown} mS/cm²", flush=True)
    return np.array(found).swapaxes(0, 1)


def main(argv=None):
    """Fit, refine, repeat, draw; return the results."""
    parser = program.options(__doc__, "fit_hh", 100, "one update of Adam", seed=0)
    add = parser.add_argument
    add("--jaxley", action="store_true", help="fit a cell of jaxley")
    add("--noise", type=float, default=0.0, help="of the recordings, in mV (0)")
    add("--repetitions", type=int, default=0, help="more fits, each with new noise (0)")
    args = program.parse(parser, argv)

    fit = (jaxley_fit if args.jaxley else our_fit)(args.steps)
    rng, fresh = bo.RandomState(args.seed), fit.state_dict()
    fit.recording.value += args.noise * rng.normal(fit.recording.shape)
    traces = {"recorded": fit.recording.value, "before": fit.simulate()}

    def advance():
        return {"loss (mV²)": fit.step()}

    program.train(args, fit, advance, every=25)
    by_adam, errors = fit.get(), fit.refine()
    found, traces["after"] = fit.get(), fit.simulate()
    results = {}
    for k, name in enumerate(NAMES):
        results[f"{name} by Adam / true"] = by_adam[k] / TRUTH[k]
        results[f"{name} / true"] = found[k] / TRUTH[k]
        results[f"standard error of {name} (mS/cm²)"] = errors[k]
    results["largest relative error"] = float(np.abs(found / TRUTH - 1).max())
    program.report(args, fit, results)

    estimates = np.array([found, errors])[:, None]
    if args.repetitions:
        estimates = repeat(fit, fresh, args, rng)
        inside = np.abs(estimates[0] - TRUTH) <= 2 * estimates[1]
        for name, count in zip(NAMES, inside.sum(0).tolist(), strict=True):
            results[f"{name} within 2 standard errors"] = count
        results["repetitions within 2 standard errors"] = int(inside.sum(0).min())
        program.report(args, fit, results)
    if args.figure:
        draw({name: np.asarray(v) for name, v in traces.items()}, estimates, args)
    return results


def draw(traces, estimates, args):
    """Draw the traces before and after, and the estimates with their errors."""
    plt = program.pyplot()
    figure = plt.figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplot_mosaic("0E;1E;2E", gridspec_kw={"width_ratios": (2, 1.1)})
    time = (np.arange(len(ON)) + 1) * DT
    for k, amplitude in enumerate(AMPLITUDES):
        panel = axes[f"{k}"]
        panel.plot(
            time, traces["recorded"][:, k], color="0.6", lw=2.5, label="recorded"
        )
        panel.plot(
            time, traces["before"][:, k], color="tab:orange", ls=":", label="before"
        )
        panel.plot(time, traces["after"][:, k], color="tab:blue", lw=1, label="after")
        panel.set(ylabel="mV", ylim=(-90, 55), xlim=(0, DURATION))
        panel.text(0.3, 25, f"{amplitude:.0f} µA/cm²", fontsize=8)
        panel.tick_params(labelbottom=k == len(AMPLITUDES) - 1)
    axes["0"].legend(fontsize=7, frameon=False, loc="upper right")
    axes["0"].set(title="Membrane voltage")
    axes["2"].set(xlabel="time (ms)")

    panel, count = axes["E"], estimates.shape[1]
    for k, (name, color) in enumerate(
        zip(NAMES, ("tab:red", "tab:green"), strict=True)
    ):
        x = np.arange(count) + 1 + 0.2 * (k - 0.5)
        off, error = (
            (estimates[0, :, k] / TRUTH[k] - 1),
            2 * estimates[1, :, k] / TRUTH[k],
        )
        label = f"{name}, true: {TRUTH[k]:g} mS/cm²"
        panel.errorbar(
            x, 100 * off, 100 * error, fmt="o", ms=3, color=color, label=label
        )
    panel.axhline(0, color="0.5", lw=0.8)
    panel.set(xlabel="repetition", ylabel="estimate − truth (%), ± 2 standard errors")
    panel.set(xlim=(0.5, count + 0.5))
    panel.set_xticks(np.unique(np.linspace(1, count, 5).astype(int)))
    panel.set_title(f"Conductances, noise {args.noise:g} mV", pad=16)
    panel.margins(y=0.25)  # room for the legend
    panel.legend(fontsize=8, frameon=False, loc="lower left")
    program.save_figure(figure, args.figure)


if __name__ == "__main__":
    main()
