# SPDX-License-Identifier: Apache-2.0
"""A Node owns what its attributes lead to, and is copied with all of it."""

import copy
import dataclasses
import pickle

import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import PathError, VariableError

from .nets import Cell, Net


def test_assigning_to_an_attribute_writes_its_variable():
    cell = Cell()
    W = cell.W

    cell.W = [3.0, 4.0]
    cell.W += 1  # type: ignore[operator]  # no list any more
    cell.V = cell.W

    assert cell.W is W and cell.V is not W
    assert W.value.tolist() == [4.0, 5.0] == cell.V.value.tolist()


def test_a_misfit_names_the_attribute():
    cell = Cell()

    with pytest.raises(VariableError, match=r"TrainVar 'Cell\.W' cannot take"):
        cell.W = jnp.ones(3)
    with pytest.raises(VariableError, match=r"Variable 'Cell\.V'"):
        cell.V = None

    assert cell.W.value.tolist() == [0.0, 1.0]


def test_a_deleted_attribute_may_become_another_thing():
    cell = Cell()

    del cell.W
    cell.W = 3

    assert cell.W == 3 and list(cell.vars()) == ["V"]


def test_variables_in_containers_are_named_after_their_place():
    node = bo.Node()
    node.weights = {"in": [bo.Variable([1.0])]}
    node.register_implicit_vars(bo.Variable([1.0]), extra=bo.Variable([1.0]))

    names = [variable.name for variable in node.vars().values()]

    assert names == ["Node.weights.in.0", "Node.var0", "Node.extra"]


def test_the_first_node_names_a_shared_variable():
    shared = bo.Variable([1.0])
    a, b = Cell(), Cell()

    a.shared, b.alias = shared, shared

    assert shared.name == "Cell.shared"


def test_a_given_name_stays():
    node = bo.Node()
    node.W = bo.Variable([1.0], name="weight")

    assert node.W.name == "weight"


def test_implicit_variables_are_owned_by_key():
    node = bo.Node()
    a, b, c, d = (bo.TrainVar([float(i)]) for i in range(4))

    node.register_implicit_vars(a, [b], {"c": c}, d=d)
    node.register_implicit_vars(a)

    assert node.vars() == {"var0": a, "var1": b, "c": c, "d": d}
    assert list(node.train_vars()) == ["var0", "var1", "c", "d"]


def test_implicit_nodes_are_owned_by_key():
    node, a, b = bo.Node(), Cell(), Cell()

    node.register_implicit_nodes(a, second=b)

    assert list(node.nodes()) == ["", "node0", "second"]
    assert list(node.train_vars()) == ["node0.W", "second.W"]


@pytest.mark.parametrize(
    ("register", "says"),
    [
        (lambda n: n.register_implicit_vars(3), "item: a int is no Variable"),
        (lambda n: n.register_implicit_vars(a=Cell()), "a: a Cell is no Variable"),
        (
            lambda n: n.register_implicit_vars(bo.Variable(1), var_cls=bo.TrainVar),
            "a Variable is no TrainVar",
        ),
        (
            lambda n: n.register_implicit_nodes(n, node_cls=(Cell, Net)),
            "a Node is no Cell or Net",
        ),
        (lambda n: n.register_implicit_nodes(bo.Variable(1)), "is no Node"),
    ],
)
def test_implicit_strangers_are_refused(register, says):
    node = bo.Node()

    with pytest.raises(TypeError, match=says):
        register(node)

    assert list(node.nodes()) == [""] and not node.vars()


def test_an_implicit_key_never_changes_its_object():
    node = bo.Node()
    a = bo.Variable([1.0])
    node.register_implicit_vars(a=a)

    with pytest.raises(PathError, match="a"):
        node.register_implicit_vars(b=bo.Variable([1.0]), a=bo.Variable([1.0]))

    assert node.vars() == {"a": a}


def test_an_implicit_key_that_is_an_attribute_is_refused():
    cell = Cell()
    cell.register_implicit_vars(W=bo.Variable([1.0]))

    with pytest.raises(PathError, match=r"W: TrainVar 'Cell\.W' and Variable"):
        cell.vars()


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_deep_copy_shares_nothing(make):
    net = Net()

    twin = make(net)
    twin.gain += 1
    twin.layers[0].W = [5.0, 5.0]

    assert type(twin) is Net and list(twin.vars()) == list(net.vars())
    assert not set(twin.vars().values()) & set(net.vars().values())
    assert net.gain.value.tolist() == [1.0]
    assert net.layers[0].W.value.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_what_is_shared_stays_shared_in_a_copy(make):
    net = Net()
    net.tied = net.layers[0].W
    net.again = net.layers[1]
    net.top = net

    twin = make(net)

    assert twin.tied is twin.layers[0].W and twin.again is twin.layers[1]
    assert twin.top is twin


def test_a_shallow_copy_shares_variables_but_not_attributes():
    net = Net()
    net.register_implicit_vars(a=bo.Variable([1.0]))

    twin = copy.copy(net)
    twin.extra = bo.Variable([1.0])
    twin.register_implicit_vars(b=bo.Variable([1.0]))

    assert twin.gain is net.gain
    assert {"extra", "b"} & set(net.vars()) == set()


class Momentum(bo.Node):
    """Keeps a slot beside each Variable that it looks at, as optimizers do."""

    _borrowed = frozenset({"targets"})

    def __init__(self, targets):
        self.targets = dict(targets)
        self.slots = {path: bo.Variable(v.shape) for path, v in targets.items()}


def test_borrowed_attributes_are_not_owned_but_copied_together():
    net = Net()
    momentum = Momentum(net.train_vars())

    net2, momentum2 = copy.deepcopy((net, momentum))

    assert "slots.layers.0.W" in momentum.vars()
    assert not any(path.startswith("targets") for path in momentum.vars())
    assert momentum2.targets["layers.0.W"] is net2.layers[0].W
    assert momentum2.targets["layers.0.W"] is not net.layers[0].W


def test_properties_work_as_in_any_class():
    class Scaled(bo.Node):
        def __init__(self):
            self.raw = bo.TrainVar([1.0])

        @property
        def scaled(self):
            return self.raw * 2

        @scaled.setter
        def scaled(self, value):
            self.raw = value / 2

    node = Scaled()
    node.scaled = jnp.array([10.0])

    assert list(node.vars()) == ["raw"] and node.raw.value.tolist() == [5.0]


def test_a_dataclass_may_be_a_node():
    @dataclasses.dataclass(eq=False)
    class Pair(bo.Node):
        a: bo.TrainVar
        b: bo.Variable

    pair = Pair(bo.TrainVar([1.0]), bo.Variable([2.0]))

    assert list(pair.vars()) == ["a", "b"]


def test_slots_are_refused_where_they_would_hide_variables():
    with pytest.raises(TypeError, match="Hidden is a Node with __slots__"):

        class Hidden(bo.Node):
            __slots__ = ("W",)
