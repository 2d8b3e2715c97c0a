# SPDX-License-Identifier: Apache-2.0
"""Sweeps: lanes that set parameters and start from the same state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import VariableError

XS = jnp.arange(1.0, 4.0)
GAINS = jnp.array([0.0, 0.5, 2.0])


class Neuron(bo.Node):
    def __init__(self):
        self.v = bo.Variable(jnp.array(7.0))
        self.gain = bo.TrainVar(jnp.array(1.0))
        self.steps = bo.Variable(jnp.array(0))
        self.noise = bo.RandomState(0)

    def step(self, x):
        self.v.value = self.gain * self.v + x
        self.steps.value = self.steps + 1
        return self.v.value

    def simulate(self, gain):
        self.v.value = jnp.array(0.0)
        self.gain.value = gain
        return bo.for_loop(self.step, XS).sum()


def by_hand(gain):
    """Return the sum of v over the three steps v ← gain v + x from v = 0."""
    v = total = 0.0
    for x in (1.0, 2.0, 3.0):
        v = gain * v + x
        total += v
    return total


EXPECTED = [by_hand(gain) for gain in (0.0, 0.5, 2.0)]
DISCARDED = {
    "all": lambda net: True,
    "Node": lambda net: net,
    "Variables": lambda net: [net.v, net.gain],
    "collector": lambda net: net.vars(),
    "kind": lambda net: bo.Variable,
}
WAYS = {
    "eager": lambda f: f,
    "jit": bo.jit,
    "for_loop": lambda f: lambda gains: bo.for_loop(lambda: f(gains), length=1)[0],
    "grad": lambda f: lambda gains: bo.grad(
        lambda x: (r := f(x)).sum() * 0.0 + (r * jax.lax.stop_gradient(r)).sum(),
        return_value=True,
        has_aux=False,
    )(gains)[1],
    "vmap": lambda f: lambda gains: bo.vmap(f, in_axes=None, axis_size=2,
                                            discard=True)(gains)[1],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("choice", DISCARDED)
def test_each_lane_has_its_own_values_and_they_end_with_it(choice, way):
    net = Neuron()
    sweep = WAYS[way](bo.vmap(net.simulate, discard=DISCARDED[choice](net)))
    for _ in range(2):
        found = sweep(GAINS)
        expected = EXPECTED if way != "grad" else sum(x**2 for x in EXPECTED)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert (float(net.v), float(net.gain)) == (7.0, 1.0)


def test_what_is_equal_in_all_lanes_stays_written():
    net = Neuron()
    bo.vmap(net.simulate, discard=True)(GAINS)
    assert int(net.steps) == 3


def test_gradients_go_through_a_sweep():
    net = Neuron()
    sweep = bo.vmap(net.simulate, discard=True)
    found = bo.grad(lambda gains: sweep(gains).sum())(GAINS)
    step = 1e-3
    expected = [
        (by_hand(g + step) - by_hand(g - step)) / (2 * step) for g in (0.0, 0.5, 2.0)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("way", ["eager", "jit"])
def test_all_that_differ_are_named_with_the_ways_that_work(way):
    net = Neuron()
    with pytest.raises(VariableError) as caught:
        WAYS[way](bo.vmap(net.simulate))(GAINS)
    said = str(caught.value)
    assert "Neuron.v" in said and "Neuron.gain" in said
    assert "Neuron.steps" not in said
    assert all(x in said for x in ("discard=True", "axes={", "inside the function"))
    assert (float(net.v), float(net.gain), int(net.steps)) == (7.0, 1.0, 0)


def test_axes_of_a_single_model_name_the_ensemble_and_the_sweep():
    net = Neuron()
    with pytest.raises(VariableError, match=r"axis 0 of shape \(\)") as caught:
        bo.vmap(net.simulate, axes={net.v: 0, net.gain: 0})(GAINS)
    assert "discard=True" in str(caught.value)
    assert "bo.vmap(lambda _: Model())" in str(caught.value)


def test_the_two_other_ways_of_the_help_give_the_same():
    def inside(gain):
        return Neuron().simulate(gain)

    ensemble = bo.vmap(lambda _: Neuron())(jnp.arange(3))
    lanes = bo.vmap(ensemble.simulate, axes={ensemble: 0})
    np.testing.assert_allclose(bo.vmap(inside)(GAINS), EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(lanes(GAINS), EXPECTED, rtol=1e-6)
    assert ensemble.gain.value.tolist() == GAINS.tolist()


def test_what_is_not_chosen_is_still_refused():
    net = Neuron()
    with pytest.raises(VariableError) as caught:
        bo.vmap(net.simulate, discard=[net.v])(GAINS)
    assert "Neuron.gain" in str(caught.value) and "Neuron.v'" not in str(caught.value)


@pytest.mark.parametrize("garbage", ["v", 1.5])
def test_garbage_is_refused(garbage):
    with pytest.raises(TypeError, match="no rule to be mapped by"):
        bo.vmap(lambda x: x, discard=garbage)(GAINS)
