# SPDX-License-Identifier: Apache-2.0
"""A Node is a pytree: its leaves are values, its structure is all the rest."""

import collections
import dataclasses
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

from .nets import NET_VARS, Cell, Net


def _make(**attributes):
    node = bo.Node()
    for key, value in attributes.items():
        setattr(node, key, value)
    return node


def _round(node):
    return jax.tree.map(lambda x: x, node)


def test_flatten_gives_the_values_and_unflatten_a_new_node():
    cell = Cell()

    values, skeleton = cell.tree_flatten()
    new = Cell.tree_unflatten(skeleton, [value + 1 for value in values])

    assert [value.tolist() for value in values] == [[0.0, 1.0], [0.0, 0.0]]
    assert type(new) is Cell and type(new.W) is bo.TrainVar
    assert new.W.value.tolist() == [1.0, 2.0] and cell.W.value.tolist() == [0.0, 1.0]


def test_two_instances_share_a_treedef_whatever_their_names():
    a, b = Net(), Net()
    a.name = "retina"
    assert b.name

    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert hash(jax.tree.structure(a)) == hash(jax.tree.structure(b))


def test_tree_map_pairs_two_instances():
    a, b = Cell(), Cell()
    b.V = [5.0, 6.0]

    total = jax.tree.map(jnp.add, a, b)

    assert total.V.value.tolist() == [5.0, 6.0] and total.W.value.tolist() == [0.0, 2.0]


def test_jit_compiles_once_for_equal_nodes(counted):
    fn = counted(lambda cell: cell.W.sum() + cell.V.sum())
    fast = jax.jit(fn)

    results = [float(fast(Cell())), float(fast(Cell())), float(fast(Cell(3)))]

    assert results == [1.0, 1.0, 3.0] and fn.traces == 2


def test_jit_returns_a_node():
    @jax.jit
    def grown(cell):
        cell.W = cell.W + 1
        return cell

    cell = Cell()
    new = grown(cell)

    assert new.W.value.tolist() == [1.0, 2.0] and cell.W.value.tolist() == [0.0, 1.0]


def test_grad_is_a_node_of_gradients():
    grads = jax.grad(lambda cell: jnp.sum(cell.W**2))(Cell(3))

    assert grads.W.value.tolist() == [0.0, 2.0, 4.0]
    assert grads.V.value.tolist() == [0.0, 0.0, 0.0]


def test_vmap_maps_over_a_node_of_stacked_values():
    cells = [Cell(), Cell()]
    cells[1].W = [5.0, 6.0]

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *cells)
    sums = jax.vmap(lambda cell: cell.W.sum())(stacked)

    assert stacked.W.shape == (2, 2) and sums.tolist() == [1.0, 11.0]


def test_eval_shape_gives_a_node_of_shapes():
    out = jax.eval_shape(lambda node: node, Net())

    assert out.layers[1].W.shape == (3,) and out.rate == 0.5
    assert "shape=(3,)" in repr(out.layers[1].W)


def test_leaves_are_named_by_their_paths():
    leaves, _ = jax.tree_util.tree_flatten_with_path(Net())

    names = [jax.tree_util.keystr(path) for path, _ in leaves]

    assert sorted(names) == sorted(f".{path}" for path in NET_VARS)


def test_implicit_variables_are_leaves_under_their_paths():
    node = _make()
    node.register_implicit_vars(extra=bo.Variable([1.0]))
    node.register_implicit_nodes(cell=Cell())

    names = [
        jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(node)
    ]

    assert names == [".extra", ".cell.W", ".cell.V"]
    assert list(_round(node).vars()) == ["extra", "cell.W", "cell.V"]


STATIC = [
    (0.5, 0.25),
    ("relu", "tanh"),
    (np.ones(2), np.zeros(2)),
    (jnp.ones(2), jnp.zeros(2)),
    ([1, 2], [1, 3]),
    ([1], (1,)),
    ({"a": 1}, {"b": 1}),
    (jnp.sin, jnp.cos),
    (1, True),
]


@pytest.mark.parametrize(("a", "b"), STATIC, ids=lambda x: str(x)[:12])
def test_static_attributes_are_part_of_the_structure(a, b):
    make = lambda value: jax.tree.structure(_make(W=bo.Variable([1.0]), x=value))  # noqa: E731

    assert make(a) == make(a) and make(a) != make(b)


@pytest.mark.parametrize("change", [{"batch_axis": 0}, {"axis_names": ("n",)}])
def test_what_describes_a_variable_is_part_of_the_structure(change):
    a, b = (_make(W=bo.Variable([1.0], **more)) for more in ({}, change))

    assert jax.tree.structure(a) != jax.tree.structure(b)
    assert _round(b).W.batch_axis == b.W.batch_axis
    assert _round(b).W.axis_names == b.W.axis_names


def test_the_kind_of_a_variable_is_part_of_the_structure():
    a, b = _make(W=bo.Variable([1.0])), _make(W=bo.TrainVar([1.0]))

    assert jax.tree.structure(a) != jax.tree.structure(b)


def test_a_static_array_that_changes_compiles_anew(counted):
    node = _make(W=bo.Variable([1.0, 1.0]), mask=np.ones(2, np.float32))
    fn = counted(lambda n: jnp.sum(n.W * n.mask))
    fast = jax.jit(fn)

    before = float(fast(node))
    node.mask[0] = 0.0

    assert (before, float(fast(node)), float(fast(node))) == (2.0, 1.0, 1.0)
    assert fn.traces == 2


def test_a_nan_among_the_settings_compiles_once(counted):
    fn = counted(lambda n: n.W * 2)
    fast = jax.jit(fn)

    for _ in range(3):
        fast(_make(W=bo.Variable([1.0]), a=float("nan"), b=np.array([np.nan])))

    assert fn.traces == 1


def test_what_is_shared_stays_shared():
    net = Net()
    net.tied, net.again, net.top = net.layers[0].W, net.layers[1], net

    new = _round(net)

    assert len(jax.tree.leaves(net)) == len(NET_VARS)
    assert new.tied is new.layers[0].W and new.again is new.layers[1]
    assert new.top is new


def test_sharing_is_part_of_the_structure():
    v = bo.Variable([1.0])
    tied, loose = _make(a=v, b=v), _make(a=v, b=bo.Variable([1.0]))

    assert jax.tree.structure(tied) != jax.tree.structure(loose)


def test_a_view_looks_at_the_new_variable():
    node = _make(W=bo.Variable([1.0, 2.0]))
    node.first = bo.VariableView(node.W, 0)

    new = _round(node)
    new.first.value = 9.0

    assert new.W.value.tolist() == [9.0, 2.0] and node.W.value.tolist() == [1.0, 2.0]
    assert jax.tree.structure(node) == jax.tree.structure(new)


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Record:
    weight: Any
    number: int = 3


@pytest.mark.parametrize(
    "container",
    [
        [bo.Variable([1.0]), 2],
        (bo.Variable([1.0]), "x"),
        {"b": bo.Variable([1.0]), "a": [bo.Variable([2.0])]},
        collections.OrderedDict(b=bo.Variable([1.0]), a=1),
        collections.defaultdict(list, a=bo.Variable([1.0])),
        Pair(bo.Variable([1.0]), 2),
        Record(bo.Variable([1.0])),
        collections.deque([bo.Variable([1.0]), 2], maxlen=3),
        collections.UserDict(b=bo.Variable([1.0]), a=1),
        collections.UserList([bo.Variable([1.0])]),
        collections.ChainMap({"b": bo.Variable([1.0])}),
        types.SimpleNamespace(b=bo.Variable([1.0]), a=1),
        bo.VarList([[1.0]]),
        bo.VarDict(b=[1.0], a=[2.0]),
        bo.NodeList([Cell()]),
        bo.NodeDict({"b": Cell(), "a": Cell()}, check_unique=True),
    ],
    ids=lambda c: type(c).__name__,
)
def test_containers_come_back_as_they_were(container):
    node = _make(x=container)

    new = _round(node)

    assert type(new.x) is type(container) and repr(new.x) == repr(container)
    assert list(new.vars()) == list(node.vars())
    assert not set(new.vars().values()) & set(node.vars().values())
    assert jax.tree.structure(new) == jax.tree.structure(node)
    assert getattr(new.x, "default_factory", None) == getattr(
        container, "default_factory", None
    )


def test_a_structure_holds_no_node_alive():
    import gc
    import weakref

    net = Net()
    gone = weakref.ref(net), weakref.ref(net.gain)

    structure = jax.tree.structure(net)
    del net
    gc.collect()

    assert structure.num_leaves == len(NET_VARS)
    assert [ref() for ref in gone] == [None, None]


def test_a_copy_leaves_the_lists_of_the_original_alone():
    node = _make(sizes=[1, 2], table={"a": [1]})

    new = _round(node)
    new.sizes.append(3)
    new.table["a"].append(2)

    assert node.sizes == [1, 2] and node.table == {"a": [1]}
