# SPDX-License-Identifier: Apache-2.0
"""Fit the conductances of a Hodgkin-Huxley cell to voltage traces.

The maximal sodium and potassium conductances start wrong and are found from three
recordings by gradient descent through the integrator. Both are kept in the range of a
real membrane by the bounds of their parameter group.

    python examples/fit_hh.py                # with the integrator below
    python examples/fit_hh.py --jaxley       # the same with a cell of jaxley

Source: Hodgkin & Huxley 1952, with the resting potential at -65 mV; Rush & Larsen 1978
for the step of the gates.
"""

import argparse

import jax
import jax.numpy as jnp

import brainopt as bo

DT, DURATION, ONSET = 0.025, 15.0, 2.0  # ms
AMPLITUDES = jnp.array([3.0, 7.0, 12.0])  # µA/cm²
ON = jnp.arange(int(DURATION / DT)) * DT > ONSET
TRUTH = {"g_na": 120.0, "g_k": 36.0}  # mS/cm²
BOUNDS = {"g_na": (20.0, 250.0), "g_k": (5.0, 100.0)}


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


def fit(net, simulate, target, scale, bounds, steps):
    """Go down the squared difference of the smoothed traces; return what was found."""
    rules = [{"match": name, "bounds": range_} for name, range_ in bounds.items()]
    lr = bo.optim.CosineAnnealingLR(scale, steps, clock="step")
    opt = bo.optim.Adam(lr, net, beta2=0.9, groups=rules)
    wanted = smooth(target)
    gradient = bo.grad(
        lambda: ((smooth(simulate()) - wanted) ** 2).mean(), net, return_value=True
    )

    @bo.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    for i in range(steps):
        value = float(step())
        if i % 25 == 0 or i == steps - 1:
            found = {k: float(v.value.sum()) for k, v in opt.vars_to_train.items()}
            shown = "  ".join(f"{name} {g:8.4g}" for name, g in found.items())
            print(f"step {i + 1:4d}  loss {value:10.4g} mV²  {shown}")
    return list(found.values())


def with_our_integrator(steps):
    """Return the conductances found and the true ones, in mS/cm²."""
    cell, target = Cell(g_na=90.0, g_k=50.0), Cell(**TRUTH)(AMPLITUDES)
    found = fit(cell, lambda: cell(AMPLITUDES), target, 3.0, BOUNDS, steps)
    return found, list(TRUTH.values())


def with_jaxley(steps):
    """Do the same with a jaxley cell, whose parameters are a list of dicts (S/cm²)."""
    import jaxley as jx
    from jaxley.channels import HH

    cell = jx.Cell()
    cell.insert(HH())
    cell.record("v", verbose=False)
    for name in ("HH_gNa", "HH_gK"):
        cell.make_trainable(name, verbose=False)
    area = 2 * jnp.pi * float(cell.nodes["radius"][0]) * float(cell.nodes["length"][0])

    def simulate(params):
        def trace(amplitude):  # µA/cm² on µm² is 1e-5 nA
            stimuli = cell.data_stimulate(ON * amplitude * area * 1e-5)
            return jx.integrate(cell, params=params, data_stimuli=stimuli, delta_t=DT)

        return jnp.stack([trace(amplitude)[0] for amplitude in AMPLITUDES], 1)

    truth = cell.get_parameters()
    net = bo.attach([{"HH_gNa": jnp.array([0.09])}, {"HH_gK": jnp.array([0.05])}])
    bounds = {"0.HH_gNa": (0.02, 0.25), "1.HH_gK": (0.005, 0.1)}
    found = fit(net, lambda: simulate(net.model), simulate(truth), 2e-3, bounds, steps)
    return found, [float(truth[0]["HH_gNa"][0]), float(truth[1]["HH_gK"][0])]


def main(steps=200, jaxley=False):
    """Fit, and return the conductances relative to the true ones."""
    found, truth = (with_jaxley if jaxley else with_our_integrator)(steps)
    ratios = [f / t for f, t in zip(found, truth, strict=True)]
    print("found / true:", "  ".join(f"{ratio:.4f}" for ratio in ratios))
    return ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--jaxley", action="store_true")
    options = parser.parse_args()
    main(options.steps, options.jaxley)
