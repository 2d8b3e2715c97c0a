# SPDX-License-Identifier: Apache-2.0
"""A summary is a table of what a node owns, in numbers that add up."""

import jax
import pytest

import brainopt as bo

from .nets import Net

TABLE = """\
path        kind         shape   dtype     device  bytes
────────────────────────────────────────────────────────
rng         RandomState  ()      key<fry>  cpu:0       8
V           Variable     (2,)    int8      cpu:0       2
W = same.W  TrainVar     (3, 2)  float32   cpu:0      24
p.a         TrainVar     (2,)    float16   cpu:0       4
p.b         TrainVar     ()      float32   cpu:0       4
────────────────────────────────────────────────────────
RandomState: 1 element, 8 bytes
TrainVar: 9 elements, 32 bytes
Variable: 2 elements, 2 bytes
total: 12 elements, 42 bytes"""


def _node():
    node = bo.Node()
    node.rng = bo.RandomState(0)
    node.V = bo.Variable((2,), "int8")
    node.W = bo.TrainVar((3, 2))
    node.p = bo.TrainVar({"a": jax.numpy.zeros(2, "float16"), "b": 1.0})
    node.same = {"W": node.W}
    return node


def test_the_table_is_this():
    assert str(bo.summary(_node())) == repr(bo.summary(_node())) == TABLE


def test_rows_and_totals_are_there_to_compute_with():
    summary = bo.summary(_node())

    assert [row.nbytes for row in summary.rows] == [8, 2, 24, 4, 4]
    assert (summary.nbytes, summary.size) == (42, 12)
    assert summary.rows[2].aliases == ("same.W",)
    assert summary.rows[2].shape == (3, 2)


def test_a_large_total_is_said_in_a_unit_too():
    node = bo.Node()
    node.W = bo.Variable((1024, 512))

    assert str(bo.summary(node)).endswith(
        "total: 524,288 elements, 2,097,152 bytes (2.0 MiB)"
    )


def test_dicts_and_lists_of_nodes_have_one_too():
    summary = bo.summary({"net": Net(), "more": [bo.Variable([1.0])]})

    assert {"more.0", "net.gain", "net.layers.1.W"} < {r.path for r in summary.rows}


def test_nothing_is_a_table_too():
    assert str(bo.summary(bo.Node())).endswith("total: 0 elements, 0 bytes")


@pytest.mark.parametrize("stranger", [3, "net", Net, lambda: None])
def test_what_owns_nothing_has_no_table(stranger):
    with pytest.raises(TypeError, match="has no Variables to list"):
        bo.summary(stranger)


def test_a_sharding_is_said_in_short():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    node = bo.Node()
    node.W = bo.Variable((4, 2))
    node.to(jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x")))

    assert bo.summary(node).rows[0].place == "(None, 'x') on 2 cpu"


def test_shapes_without_arrays_have_no_place():
    shapes = jax.eval_shape(lambda node: node, _node())

    rows = bo.summary(shapes).rows

    assert {row.place for row in rows} == {"-"} and sum(r.nbytes for r in rows) == 42


def test_a_summary_works_inside_a_transform():
    node, said = _node(), []

    bo.jit(lambda: said.append(bo.summary(node).nbytes))()

    assert said[-1] == 42


@pytest.mark.parametrize("kind", [bo.Variable, bo.TrainVar])
def test_the_kind_is_the_class(kind):
    node = bo.Node()
    node.x = kind([1.0])

    assert bo.summary(node).rows[0].kind == kind.__name__


def _mixed():
    W = jax.numpy.array([[1.0, -3.0], [jax.numpy.nan, jax.numpy.inf]])
    layer = bo.Node()
    layer.W, layer.b = bo.TrainVar(W), bo.TrainVar([5.0, 7.0])
    net = bo.Node()
    net.layers, net.count = [layer], bo.Variable(3, "int32")
    net.rng = bo.RandomState(0)
    return net


def test_numbers_that_are_not_finite_are_counted_and_left_out():
    rows = {row.path: row.stats for row in bo.summary(_mixed(), stats=True).rows}

    assert rows["layers.0.W"] == (-3.0, 1.0, -1.0, 2)
    assert rows["layers.0.b"] == (5.0, 7.0, 6.0, 0)
    assert rows["count"] == (0.0, 0.0, 0.0, 0)
    assert rows["rng"] is None


def test_subtotals_are_those_of_numpy():
    summary = bo.summary(_mixed(), depth=2, stats=True)
    layer = next(row for row in summary.groups if row.path == "layers.0")

    assert (layer.kind, layer.count, layer.size, layer.nbytes) == ("Node", 2, 6, 24)
    assert layer.stats == (-3.0, 7.0, (1 - 3 + 5 + 7) / 4, 2)
    assert "layers.0" in str(summary) and "layers.0.W" not in str(summary)


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="depth=0"):
        bo.summary(_mixed(), depth=0)
