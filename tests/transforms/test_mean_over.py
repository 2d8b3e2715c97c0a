# SPDX-License-Identifier: Apache-2.0
"""Data parallelism inside `bo.shard_map`: the mean of losses, and the old idiom."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.errors import GradientError
from tests.sharding.nets import Net, data, mesh_of


def stepped(gradients, count=8, check_vma=True, through=bo.jit):
    """The change of a weight by one step of SGD over some devices."""
    net, mesh = Net(), mesh_of(count, devices=jax.devices()[:count])
    opt, before = bo.optim.SGD(1.0, net.train_vars()), np.asarray(net.l1.W.value)

    def step(x, y):
        opt.update(gradients(lambda: jnp.mean((net(x) - y) ** 2), net.train_vars()))

    through(
        bo.shard_map(
            step, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=check_vma
        )
    )(*data())
    return np.asarray(net.l1.W.value) - before


def alone():
    net = Net()
    opt, before = bo.optim.SGD(1.0, net.train_vars()), np.asarray(net.l1.W.value)
    x, y = data()
    opt.update(bo.grad(lambda: jnp.mean((net(x) - y) ** 2), net.train_vars())())
    return np.asarray(net.l1.W.value) - before


RIGHT = {
    "mean_over": lambda loss, w: bo.grad(loss, w, mean_over="data")(),
    "value_and_grad": lambda loss, w: bo.value_and_grad(loss, w, mean_over="data")()[1],
    "pmean of the loss": lambda loss, w: bo.grad(
        lambda: jax.lax.pmean(loss(), "data"), w
    )(),
}


@pytest.mark.more
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("gradients", RIGHT.values(), ids=RIGHT)
def test_the_step_is_that_of_one_device(gradients, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change = stepped(gradients, count)

    np.testing.assert_allclose(change, alone(), atol=1e-7)


@pytest.mark.long
def test_the_eager_step_is_that_of_one_device():
    change = stepped(RIGHT["mean_over"], through=lambda step: step)

    np.testing.assert_allclose(change, alone(), atol=1e-7)


def test_the_mean_of_gradients_is_warned_of():
    def idiom(loss, w):
        return jax.tree.map(lambda g: jax.lax.pmean(g, "data"), bo.grad(loss, w)())

    with pytest.warns(UserWarning, match="sums over the devices.*\n.*mean_over='data'"):
        change = stepped(idiom)

    np.testing.assert_allclose(change, 8 * alone(), atol=1e-6)  # as in jax


@pytest.mark.more
def test_the_value_is_the_mean_over_the_devices():
    net, mesh = Net(), mesh_of(8)
    x, y = data()

    def loss(x, y):
        return bo.value_and_grad(
            lambda: jnp.mean((net(x) - y) ** 2), net.train_vars(), mean_over="data"
        )()[0]

    found = bo.shard_map(loss, mesh=mesh, in_specs=P("data"), out_specs=P())(x, y)

    assert float(found) == pytest.approx(float(jnp.mean((net(x) - y) ** 2)), abs=1e-7)


def test_gradients_of_divided_variables_are_of_each_device_alone():
    v, mesh = bo.TrainVar(jnp.arange(8.0)), mesh_of(8)

    def square():
        return bo.grad(lambda: (v**2).sum(), v)()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g = bo.shard_map(
            square, mesh=mesh, in_specs=(), out_specs=P("data"), specs={v: P("data")}
        )()
    np.testing.assert_array_equal(g, 2 * np.arange(8.0))


def test_an_axis_along_which_nothing_differs_is_an_error():
    w = bo.TrainVar([1.0])
    with pytest.raises(GradientError, match="mean_over='data'"):
        bo.grad(lambda: (w**2).sum(), w, mean_over="data")()
    with pytest.raises(GradientError, match="check_vma=True"):
        stepped(RIGHT["mean_over"], check_vma=False)
