# SPDX-License-Identifier: Apache-2.0
"""Typed lists and dicts admit their kind only, whichever way it comes in."""

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import PathError, VariableError


def _values(container):
    items = container.values() if isinstance(container, dict) else container
    return [variable.value.tolist() for variable in items]


def test_a_var_list_makes_variables_of_data():
    weights = bo.VarList([[1.0], bo.TrainVar([2.0])])

    weights.append([3.0]).extend([[4.0]])
    weights.insert(0, [0.0])
    weights += [[5.0]]

    assert _values(weights) == [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    assert all(isinstance(v, bo.Variable) for v in weights)


def test_assigning_to_a_var_list_writes_its_variables():
    first, second = bo.Variable([1.0]), bo.Variable([2.0])
    weights = bo.VarList([first, second])

    weights[0] = [5.0]
    weights[1] += 1
    assert weights[0] is first and weights[1] is second
    weights[:] = [[7.0], first]

    assert _values([first, second]) == [[7.0], [5.0]]


def test_a_slice_of_a_var_list_is_written_whole_or_not_at_all():
    weights = bo.VarList([[1.0], [2.0]])

    with pytest.raises(VariableError):
        weights[:] = [[5.0], [1.0, 2.0]]
    with pytest.raises(ValueError, match="1 values for 2 Variables"):
        weights[:] = [[5.0]]

    assert _values(weights) == [[1.0], [2.0]]


def test_a_var_dict_writes_what_is_there_and_adds_the_rest():
    w = bo.Variable([1.0])
    weights = bo.VarDict({"w": w}, b=[2.0])

    weights["w"] = [3.0]
    weights["w"] += 1
    weights.update([("b", [5.0])], c=[6.0])
    weights |= {"d": [7.0]}
    weights.setdefault("e", [8.0])

    assert weights["w"] is w
    assert list(weights) == ["w", "b", "c", "d", "e"]
    assert _values(weights) == [[4.0], [5.0], [6.0], [7.0], [8.0]]


def test_a_var_dict_takes_pairs_of_any_iterable():
    weights = bo.VarDict(zip("ab", ([1.0], [2.0]), strict=True))

    assert _values(weights) == [[1.0], [2.0]]


NOT_A_NODE = {
    "list": lambda: bo.NodeList([1]),
    "append": lambda: bo.NodeList().append(bo.Variable(1)),
    "extend": lambda: bo.NodeList().extend([1]),
    "insert": lambda: bo.NodeList().insert(0, 1),
    "iadd": lambda: bo.NodeList().__iadd__([1]),
    "item": lambda: bo.NodeList([bo.Node()]).__setitem__(0, 1),
    "slice": lambda: bo.NodeList([bo.Node()]).__setitem__(slice(1), [1]),
    "dict": lambda: bo.NodeDict(a=1),
    "update": lambda: bo.NodeDict().update(a=1),
    "setdefault": lambda: bo.NodeDict().setdefault("a"),
    "ior": lambda: bo.NodeDict().__ior__({"a": 1}),
}


@pytest.mark.parametrize("way", NOT_A_NODE)
def test_node_containers_refuse_strangers_on_every_way_in(way):
    with pytest.raises(TypeError, match="is no Node"):
        NOT_A_NODE[way]()


def test_node_containers_take_nodes_on_every_way_in():
    a, b, c = bo.Node(), bo.Node(), bo.Node()

    nodes = bo.NodeList([a]).append(b).extend([c])
    nodes[0] = c
    table = bo.NodeDict({"a": a}, b=b).update(c=c)

    assert list(nodes) == [c, b, c] and list(table.values()) == [a, b, c]


def test_extend_adds_all_or_nothing():
    nodes = bo.NodeList()

    with pytest.raises(TypeError):
        nodes.extend([bo.Node(), 1])

    assert not nodes


def test_check_unique_refuses_another_node_under_a_key():
    a = bo.Node()
    free, strict = bo.NodeDict(a=a), bo.NodeDict({"a": a}, check_unique=True)

    free["a"] = bo.Node()
    strict["a"] = a

    with pytest.raises(PathError, match="a"):
        strict["a"] = bo.Node()
    assert free["a"] is not a and strict["a"] is a


CONTAINERS = [
    bo.VarList([[1.0], [2.0]]),
    bo.VarDict(b=[1.0], a=[2.0]),
    bo.NodeList([bo.Node()]),
    bo.NodeDict({"b": bo.Node(), "a": bo.Node()}, check_unique=True),
]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_containers_are_copied(container, make):
    new = make(container)

    assert type(new) is type(container) and new is not container
    assert repr(new) == repr(container)
    assert getattr(new, "check_unique", None) == getattr(
        container, "check_unique", None
    )


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: type(c).__name__)
def test_containers_are_pytrees(container):
    new = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf * 2, x))(container)

    assert type(new) is type(container) and len(new) == len(container)
    if type(container) is bo.VarDict:
        assert list(new) == ["b", "a"] and _values(new) == [[2.0], [4.0]]
    if type(container) is bo.VarList:
        assert _values(new) == [[2.0], [4.0]]


def test_keys_of_a_var_dict_name_the_leaves():
    leaves = jax.tree_util.tree_leaves_with_path(bo.VarDict(w=jnp.ones(2)))

    assert jax.tree_util.keystr(leaves[0][0]) == "['w'].value"
