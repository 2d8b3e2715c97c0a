# SPDX-License-Identifier: Apache-2.0
"""Spikes with surrogate derivatives, shared by the examples.

A spike is exactly the step function: 1 where the membrane is above threshold, else 0.
Its derivative is 0 almost everywhere, so backpropagation puts a smooth function in its
place. Each function here takes the distance to the threshold and a slope; the slope
may be a number or the value of a Variable, which then changes without a new trace.

    spike = fast_sigmoid(v - threshold, slope=10.0)
    python examples/surrogates.py          # draws the three derivatives

Source: Zenke & Ganguli 2018, SuperSpike (fast sigmoid); Bellec et al. 2018, Long
short-term memory and learning-to-learn in networks of spiking neurons (triangle); Fang
et al. 2021, Incorporating learnable membrane time constant (arctan).
"""

import argparse
import functools
import importlib.util
import inspect

import jax
import jax.numpy as jnp


def surrogate(derivative):
    """Return ``spike(x, slope)``, a step with that ``derivative(x, slope)``."""

    @jax.custom_jvp
    def step(x, slope):
        return (x > 0).astype(x.dtype)

    @step.defjvp
    def _(primals, tangents):
        x, slope = primals
        return step(x, slope), derivative(x, slope) * tangents[0]

    usual = default_slope(derivative)

    @functools.wraps(derivative)
    def spike(x, slope=usual):
        return step(jnp.asarray(x), jnp.asarray(slope, jnp.result_type(x)))

    return spike


def default_slope(spike):
    """Return the slope that a spike has where none is given."""
    return inspect.signature(spike).parameters["slope"].default


@surrogate
def fast_sigmoid(x, slope=10.0):
    """1 / (1 + slope |x|)²: a high peak and long tails; the slope narrows it."""
    return 1 / (1 + slope * jnp.abs(x)) ** 2


@surrogate
def triangle(x, slope=0.3):
    """slope max(0, 1 - |x|): of compact support; the slope is its height.

    Far from the threshold it is 0, and a small height damps what grows on the way
    back through many steps of a recurrent network.
    """
    return slope * jnp.maximum(0.0, 1 - jnp.abs(x))


@surrogate
def arctan(x, slope=2.0):
    """slope / 2 / (1 + (π slope x / 2)²): the derivative of an arc tangent."""
    return slope / 2 / (1 + (jnp.pi * slope * x / 2) ** 2)


ALL = (fast_sigmoid, triangle, arctan)


def draw(filename):
    """Draw the spike and its three surrogate derivatives."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x = jnp.linspace(-2, 2, 801)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    axes[0].plot(x, ALL[0](x), color="k")
    axes[0].set(ylabel="spike", title="Forward: exactly a step")
    for spike in ALL:
        label = f"{spike.__name__}, slope {default_slope(spike):g}"
        axes[1].plot(x, jax.vmap(jax.grad(spike))(x), label=label)
    axes[1].set(ylabel="derivative", title="Backward: the surrogate")
    axes[1].legend(frameon=False, fontsize=8)
    for panel in axes:
        panel.set(xlabel="membrane − threshold (thresholds)")
    figure.savefig(filename, dpi=150)
    print(f"wrote {filename}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the surrogate derivatives.")
    parser.add_argument("--figure", default="surrogates.png", help="the file to write")
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("the figure needs matplotlib: pip install matplotlib")
    draw(options.figure)
