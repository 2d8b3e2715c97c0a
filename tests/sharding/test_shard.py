# SPDX-License-Identifier: Apache-2.0
"""`bo.sharding.shard`: what each rule does, and that a wrong one moves nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.errors import DeviceError, PathError, ShardingError
from tests.sharding.nets import Net, at, data, largest_part, mesh_of, step_of

WHOLE = {"l1.W": P(), "l1.b": P(), "l2.W": P(), "l2.b": P()}
COLUMNS = P(None, "model")
RULES = {
    "bare mesh": ({}, WHOLE),
    "glob": (
        {"rules": {"*.W": COLUMNS}},
        WHOLE | {"l1.W": COLUMNS, "l2.W": COLUMNS},
    ),
    "first that fits": (
        {"rules": {"l1": P(), "re:.*W": COLUMNS}},
        WHOLE | {"l2.W": COLUMNS},
    ),
    "preset": (
        {"rules": {"vectors": P("data")}},
        WHOLE | {"l1.b": P("data"), "l2.b": P("data")},
    ),
    "names of axes": (
        {"axes": {"mlp": "model"}},
        WHOLE | {"l1.W": COLUMNS, "l2.W": COLUMNS},
    ),
    "fsdp": (
        {"fsdp": "data", "min_size": 1000},
        WHOLE | {"l1.W": P(None, "data"), "l2.W": P("data", None)},
    ),
    "rule and fsdp": (
        {"rules": {"*.W": COLUMNS}, "fsdp": "data", "min_size": 1000},
        WHOLE | {"l1.W": P("data", "model"), "l2.W": P("data", "model")},
    ),
    "two axes": (
        {"fsdp": ("data", "model"), "min_size": 2000},
        WHOLE | {"l1.W": P(None, ("data", "model"))},
    ),
}


@pytest.mark.parametrize(("options", "specs"), RULES.values(), ids=RULES)
def test_each_rule_divides_what_it_names(options, specs):
    net, mesh = Net(), mesh_of(4, 2)

    left = bo.sharding.shard(net, mesh, **options)

    for path, v in net.vars().items():
        assert v.value.sharding.is_equivalent_to(at(mesh, *specs[path]), v.value.ndim)
    assert left == {}


def test_what_fsdp_cannot_divide_stays_whole_and_is_reported():
    node = bo.Node()
    node.odd, node.even = bo.Variable((7, 3)), bo.Variable((8, 3))

    left = bo.sharding.shard(node, mesh_of(8), fsdp="data", min_size=0)

    assert left == {"odd": "no free dimension of (7, 3) divides by 8"}
    assert node.odd.value.sharding.spec == P()
    assert largest_part(node.even) == 3 * 4


WRONG = {
    "no such axis": ({"rules": {"*.W": P("row")}}, "the mesh has no axis 'row'"),
    "no such axis of fsdp": ({"fsdp": "row"}, "fsdp: the mesh has no axis 'row'"),
    "no such axis of a name": ({"axes": {"mlp": "row"}}, "mlp: the mesh has no axis"),
    "does not divide": ({"rules": {"odd": P("data")}}, "odd: 7 along axis 0"),
    "too many": ({"rules": {"l1.b": P(None, "data")}}, "l1.b: .* of shape"),
    "twice": ({"rules": {"l1.W": P("data", "data")}}, "uses an axis twice"),
}


@pytest.mark.parametrize(("options", "says"), WRONG.values(), ids=WRONG)
def test_a_rule_that_cannot_be_is_named_and_nothing_moves(options, says):
    net = Net()
    net.odd = bo.Variable(7)
    before = {path: v.value for path, v in net.vars().items()}

    with pytest.raises(ShardingError, match=says):
        bo.sharding.shard(net, mesh_of(8), **options)

    assert all(v.value is before[path] for path, v in net.vars().items())


def test_a_rule_that_fits_nothing_is_named():
    with pytest.raises(PathError, match=r"\*\.weight"):
        bo.sharding.shard(Net(), mesh_of(8), {"*.weight": P("data")})


def test_keys_and_pytrees_are_divided_leaf_by_leaf():
    node = bo.Node()
    node.keys = bo.Variable(jax.random.split(jax.random.key(0), 8))
    node.tree = bo.Variable({"a": jnp.ones(8), "b": jnp.ones(3)})

    bo.sharding.shard(node, mesh_of(8), {"keys": P("data"), "tree.a": P("data")})

    assert node.keys.value.sharding.spec == P("data")
    assert node.tree.value["a"].sharding.spec == P("data")
    assert node.tree.value["b"].sharding.spec == P()


@pytest.mark.more
@pytest.mark.parametrize("make", [bo.optim.SGD, bo.optim.AdamW], ids=["SGD", "AdamW"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8,), {"fsdp": "data", "min_size": 0}),
        ((4, 2), {"rules": {"*.W": COLUMNS}}),
        ((4, 2), {"rules": {"*.W": COLUMNS}, "fsdp": "data", "min_size": 0}),
    ],
    ids=["FSDP", "tensor parallel", "both"],
)
def test_a_divided_model_learns_as_on_one_device(make, shape, options):
    mesh, alone, net = mesh_of(*shape), Net(), Net()
    bo.sharding.shard(net, mesh, **options)
    places = {path: v.value.sharding for path, v in net.vars().items()}
    opt, reference = make(1e-3, net.train_vars()), make(1e-3, alone.train_vars())
    step, expected = step_of(net, opt), step_of(alone, reference)
    batch = jax.device_put(data(), at(mesh, "data"))

    for _ in range(4):
        assert float(step(*batch)) == pytest.approx(float(expected(*data())), abs=2e-7)

    for path, v in net.vars().items():
        assert v.value.sharding == places[path]
        np.testing.assert_allclose(v.value, alone.vars()[path].value, atol=2e-7)


PLACES = {
    "mesh": (lambda mesh: mesh, {"W": P(), "b": P()}),
    "rules": (
        lambda mesh: {"*.W": at(mesh, None, "model"), "l1": mesh, "*.b": P("data")},
        {"W": P(None, "model"), "b": P()},
    ),
    "spec": (lambda mesh: {"l1.W": P("data")}, {"W": P("data"), "b": P()}),
}


@pytest.mark.parametrize(("make", "specs"), PLACES.values(), ids=PLACES)
def test_a_node_moves_to_a_mesh_a_spec_and_by_rules(make, specs):
    net, mesh = Net(), mesh_of(4, 2)
    net.to(mesh)

    assert net.to(make(mesh)) is net

    assert net.l1.W.value.sharding.is_equivalent_to(at(mesh, *specs["W"]), 2)
    assert net.l1.b.value.sharding.is_equivalent_to(at(mesh, *specs["b"]), 1)


def test_a_spec_needs_a_mesh_and_a_rule_a_variable():
    net = Net()
    before = net.l1.W.value

    with pytest.raises(DeviceError, match="on no mesh"):
        net.to({"l1.W": P("data")})
    with pytest.raises(PathError, match=r"\*\.weight"):
        net.to({"*.weight": mesh_of(8)})
    with jax.set_mesh(mesh_of(8)), pytest.raises(DeviceError, match="cannot be moved"):
        net.to({"l2.b": P("data"), "l1.W": P(None, None, "data")})

    assert net.l1.W.value is before
