# SPDX-License-Identifier: Apache-2.0
"""Nodes move as a whole, or stay where they are."""

import threading

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt import runtime
from brainopt.errors import DeviceError, TraceContextError

from .nets import Cell, Net


def _devices(node):
    return {v.devices().pop().id for v in node.state_dict().values()}


def _sharding(*spec, n=2):
    mesh = jax.make_mesh((n,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


@pytest.mark.parametrize("index", [0, 1])
def test_a_string_or_a_device_says_where_to(index):
    for place in (f"cpu:{index}", jax.devices("cpu")[index]):
        net = Net()
        gain = net.gain

        assert net.to(place) is net
        assert _devices(net) == {index} and net.gain is gain
        assert gain.value.tolist() == [1.0]


def test_cpu_moves_back():
    net = Net().to("cpu:1")

    assert _devices(net.cpu()) == {0}
    assert _devices(net.to("cpu:1").to("cpu")) == {0}


def test_a_moved_node_computes_where_it_is():
    cell = Cell().to("cpu:1")

    @bo.jit
    def step():
        cell.W += 1
        return cell.W * 2

    out = step()

    assert out.tolist() == [2.0, 4.0] and _devices(cell) == {1}
    assert out.devices() == {jax.devices("cpu")[1]}


def test_a_value_that_somebody_holds_stays_valid():
    cell = Cell()
    held = cell.W.value

    cell.to("cpu:0")
    bo.jit(lambda: cell.W.update(cell.W + 1))()

    assert held.tolist() == [0.0, 1.0] and cell.W.value.tolist() == [1.0, 2.0]


def test_a_sharding_divides_values_and_copies_scalars():
    node = bo.Node()
    node.W, node.rng, node.step = (
        bo.Variable((4, 3)),
        bo.RandomState(0),
        bo.Variable(()),
    )

    node.to(_sharding("x"))

    assert node.W.sharding.spec == jax.sharding.PartitionSpec("x")
    assert [shard.data.shape for shard in node.W.addressable_shards] == [(2, 3)] * 2
    assert node.step.sharding.is_fully_replicated and len(node.step.devices()) == 2
    assert node.rng.value.sharding.is_fully_replicated


def test_a_value_that_cannot_be_divided_is_named_and_nothing_moves():
    node = bo.Node()
    node.even, node.odd = bo.Variable((4,)), bo.TrainVar((3,))

    with pytest.raises(DeviceError, match=r"TrainVar 'Node\.odd': .*\b3\b"):
        node.to(_sharding("x"))

    assert _devices(node) == {0} and not node.even.value.committed


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("cuda", r"pip install 'brainopt\[cuda12\]'"),
        ("gpu:1", r"pip install 'brainopt\[cuda12\]'"),
        ("tpu", r"pip install 'brainopt\[tpu\]'"),
        ("rocm", "no rocm platform"),
        ("cpu:9", "8 cpu"),
        ("CPU", "No device is called 'CPU'"),
        ("cpu:", "No device is called"),
        ("cpu:-1", "No device is called"),
        ("cpu:one", "No device is called"),
        (3, "A int is no place"),
        (None, "A NoneType is no place"),
    ],
)
def test_what_is_not_there_is_one_clear_error(place, says):
    cell = Cell()

    with pytest.raises(DeviceError, match=says):
        cell.to(place)

    assert _devices(cell) == {0}


@pytest.mark.parametrize("move", [bo.Node.cuda, bo.Node.tpu])
def test_a_missing_backend_names_the_platforms_present(move):
    if jax.default_backend() != "cpu":
        pytest.skip("this process has an accelerator")

    with pytest.raises(DeviceError, match="present: cpu"):
        move(Cell())


def test_nothing_moves_inside_a_transform():
    cell = Cell()

    with pytest.raises(TraceContextError, match="cannot be moved inside"):
        bo.jit(lambda: cell.to("cpu:1") and None)()

    assert _devices(cell) == {0}


def test_moving_waits_for_a_step_that_is_running():
    cell = Cell()
    mover = threading.Thread(target=cell.to, args=("cpu:1",))

    with runtime.lock:
        mover.start()
        mover.join(0.2)
        assert mover.is_alive()
        cell.W = [5.0, 6.0]
    mover.join()

    assert cell.W.value.tolist() == [5.0, 6.0] and _devices(cell) == {1}


def test_a_pytree_moves_with_all_its_leaves():
    node = bo.Node()
    node.p = bo.Variable({"a": jnp.ones(2), "b": jnp.ones(1)})

    assert _devices(node.to("cpu:1")) == {1}
