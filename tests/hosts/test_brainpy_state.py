# SPDX-License-Identifier: Apache-2.0
"""A spiking network of brainpy.state, whose voltages carry units."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint

pytestmark = pytest.mark.hosts("brainpy", "brainpy_state", "braintools")

STEPS, TIME, BATCH = 20, 8, 4
_draw = np.random.RandomState(0)
SPIKES = jnp.asarray(_draw.rand(TIME, BATCH, 5) < 0.4, jnp.float32)
WANTED = jnp.asarray(_draw.rand(BATCH, 2), jnp.float32)


def make(seed=0):
    """Return a network of leaky neurons between two layers, and its loss."""
    import brainpy.state
    import brainstate
    import brainunit as u

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.inputs = brainstate.nn.Linear(5, 8)
            self.neurons = brainpy.state.LIF(
                8,
                R=1.0 * u.ohm,
                tau=5.0 * u.ms,
                V_th=0.3 * u.mV,
                V_reset=0.0 * u.mV,
                V_rest=0.0 * u.mV,
            )
            self.readout = brainstate.nn.Linear(8, 2)

        def update(self, x):
            return self.readout(self.neurons(self.inputs(x) * u.mA))

    brainstate.random.seed(seed)
    brainstate.environ.set(dt=1.0 * u.ms)
    net = Net()

    def loss():
        brainstate.nn.init_all_states(net, batch_size=BATCH)
        out = brainstate.transform.for_loop(net, SPIKES).mean(0)
        return ((out - WANTED) ** 2).mean()

    return net, loss


def adamw(train_vars=None):
    return bo.optim.AdamW(1e-2, train_vars, dialect="optax")


@functools.cache
def expected():
    """Return the losses with the optimizer of braintools."""
    import brainstate
    import braintools

    net, loss = make()
    params = net.states(brainstate.ParamState)
    opt = braintools.optim.AdamW(1e-2)
    opt.register_trainable_weights(params)
    gradient = brainstate.transform.grad(loss, params, return_value=True)
    return losses_of(brainstate.transform.jit, gradient, opt)


def losses_of(jit, gradient, opt):
    @jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    return [float(step()) for _ in range(STEPS)]


def by_their_transforms(net, loss, opt):
    from brainstate import ParamState
    from brainstate.transform import grad, jit

    return losses_of(jit, grad(loss, net.states(ParamState), return_value=True), opt)


def by_their_gradient_in_our_jit(net, loss, opt):
    from brainstate import ParamState
    from brainstate.transform import grad

    gradient = grad(loss, net.states(ParamState), return_value=True)
    return losses_of(bo.jit, gradient, opt)


def by_our_transforms(net, loss, opt):
    return losses_of(bo.jit, bo.grad(loss, net, return_value=True), opt)


ROUTES = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_losses_are_those_of_braintools(route):
    net, loss = make()
    opt = adamw(net)

    losses = route(net, loss, opt)

    np.testing.assert_allclose(losses, expected(), rtol=1e-6)
    assert losses[-1] < losses[0] and int(opt.step) == STEPS
    values = [*bo.attach(net).dict().values(), *opt.vars().dict().values()]
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))


def test_a_voltage_is_saved_with_the_model_and_keeps_its_unit(tmp_path):
    import brainstate
    import brainunit as u

    net, other = make()[0], make(seed=4)[0]
    for one in (net, other):
        brainstate.nn.init_all_states(one, batch_size=BATCH)
    net(SPIKES[0])
    voltage = net.neurons.V.value

    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(net)})
    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(other)})

    assert other.neurons.V.value.unit == voltage.unit
    assert float(abs(voltage / u.mV).max()) > 0
    np.testing.assert_array_equal(other.neurons.V.value / u.mV, voltage / u.mV)


def cell_of(threshold):
    import brainstate

    cell = brainstate.nn.Module()
    cell.p = brainstate.ParamState({"threshold": threshold, "gain": jnp.ones(2)})
    return cell


def test_a_value_in_another_unit_is_converted_or_refused(tmp_path):
    import brainunit as u

    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(cell_of(2.0 * u.mV))})
    other, names = cell_of(1.0 * u.volt), {"net": "cell"}
    checkpoint.restore(tmp_path / "a.bopt", {"cell": bo.attach(other)}, rename=names)
    threshold = other.p.value["threshold"]
    assert threshold.unit == u.volt
    np.testing.assert_allclose(threshold.to_decimal(u.mV), 2.0, rtol=1e-6)

    other = cell_of(1.0 * u.second)
    with pytest.raises(ValueError, match=r"(?s)threshold\.s: miss.*threshold\.mV"):
        checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(other)})
    assert other.p.value["threshold"] == 1.0 * u.second

    checkpoint.restore(
        tmp_path / "a.bopt", {"net": bo.attach(other)}, skip="net.p.threshold"
    )
    same = cell_of(1.0 * u.mV)
    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(same)})
    assert same.p.value["threshold"] == 2.0 * u.mV


def test_gradients_by_nested_states_are_those_by_flat_ones():
    import brainstate

    def trained(shape):
        net, loss = make()
        opt = bo.optim.SGD(0.1, net)
        states = shape(net.states(brainstate.ParamState))
        opt.update(brainstate.transform.grad(loss, states)())
        return net.inputs.weight.value["weight"]

    flat, nested = trained(lambda states: states), trained(lambda s: s.to_nest())
    np.testing.assert_array_equal(nested, flat)


def test_a_loop_of_ours_carries_voltages_of_many_cells():
    import brainstate
    import brainunit as u

    V = brainstate.HiddenState(jnp.zeros((2, 3)) * u.mV)

    def update(x):
        V.value = V.value + x * u.mV

    bo.for_loop(update, jnp.arange(4.0))
    np.testing.assert_array_equal(V.value.to_decimal(u.mV), np.full((2, 3), 6.0))
