# SPDX-License-Identifier: Apache-2.0
"""What a Node owns, and under which path."""

import collections
import dataclasses
import types
from typing import Any, NamedTuple

import numpy as np
import pytest

import brainopt as bo
from brainopt.core._walk import train_vars_of, walk_nodes
from brainopt.errors import PathError

from .nets import NET_VARS, Cell, Net


def _make(**attributes):
    node = bo.Node()
    for key, value in attributes.items():
        setattr(node, key, value)
    return node


V, W = bo.Variable([1.0]), bo.TrainVar([2.0])


def test_paths_are_attribute_paths():
    assert list(Net().vars()) == NET_VARS


def test_train_vars_are_the_train_vars():
    assert list(Net().train_vars()) == [
        p for p in NET_VARS if p[-1] == "W" or p == "gain"
    ]


def test_nodes_are_found_by_path():
    net = Net()

    assert net.nodes() == {
        "": net,
        "layers.0": net.layers[0],
        "layers.1": net.layers[1],
        "by_name.exc": net.by_name["exc"],
    }
    assert list(net.nodes(include_self=False)) == [
        "layers.0",
        "layers.1",
        "by_name.exc",
    ]


def test_absolute_names_are_those_of_brainpy():
    net = Net()
    net.vs = bo.VarList([[1.0]])
    net.vd = bo.VarDict(p=[1.0])
    net.register_implicit_vars(im=V)
    a, b, c = net.layers[0].name, net.layers[1].name, net.by_name["exc"].name

    assert list(net.nodes("absolute")) == [net.name, a, b, c]
    assert list(net.vars("absolute")) == [
        *(f"{net.name}.{key}" for key in ("gain", "rng", "vs-0", "vd-p", "im")),
        *(f"{name}.{key}" for name in (a, b, c) for key in "WV"),
    ]


@pytest.mark.parametrize(
    ("level", "paths"),
    [
        (0, ["V"]),
        (1, ["V", "child.V"]),
        (2, ["V", "child.V", "child.child.V"]),
        (-1, ["V", "child.V", "child.child.V", "child.child.child.V"]),
    ],
)
def test_level_limits_the_depth(level, paths):
    root = node = _make(V=bo.Variable([0.0]))
    for _ in range(3):
        node.child = _make(V=bo.Variable([0.0]))
        node = node.child

    assert list(root.vars(level=level)) == paths
    assert len(root.nodes(level=level)) == len(paths)


def test_level_counts_from_the_shortest_way():
    inner = _make(leaf=_make(V=V))
    root = _make(far=_make(inner=inner), near=inner)

    assert "near.leaf.V" in root.vars(level=2)


def test_include_self_and_exclude_types_leave_out():
    net = Net()

    assert list(net.vars(include_self=False)) == NET_VARS[2:]
    assert next(iter(net.train_vars(include_self=False))) == "layers.0.W"
    assert list(net.vars(exclude_types=(bo.TrainVar,), level=0)) == ["rng"]


@pytest.mark.parametrize("collect", [bo.Node.vars, bo.Node.nodes, bo.Node.train_vars])
def test_an_unknown_method_is_refused(collect):
    with pytest.raises(ValueError, match="'relative' or 'absolute'"):
        collect(bo.Node(), "nested")


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Record:
    weight: Any
    number: int = 3


CONTAINERS = [
    ([V, W], ["x.0", "x.1"]),
    ((V, [W]), ["x.0", "x.1.0"]),
    ({"a": V, "b": {"c": W}}, ["x.a", "x.b.c"]),
    ({1: V}, ["x.1"]),
    (collections.OrderedDict(b=V, a=W), ["x.b", "x.a"]),
    (Pair(V, b=[W]), ["x.a", "x.b.0"]),
    (Record([V]), ["x.weight.0"]),
    (bo.VarList([V]), ["x.0"]),
    (bo.VarDict(a=V), ["x.a"]),
    (collections.deque([V, W]), ["x.0", "x.1"]),
    (collections.UserDict(a=V), ["x.a"]),
    (collections.UserList([V]), ["x.0"]),
    (collections.ChainMap({"a": V}), ["x.a"]),
    (types.MappingProxyType({"a": V}), ["x.a"]),
    (types.SimpleNamespace(a=[V]), ["x.a.0"]),
    (np.array([[None, V]], object), ["x.0.1"]),
    ([None, 3, "text", {1, 2}, print, V], ["x.5"]),
]


@pytest.mark.parametrize(("container", "paths"), CONTAINERS, ids=lambda c: str(c)[:20])
def test_plain_containers_are_walked(container, paths):
    assert list(_make(x=container).vars()) == paths


def test_containers_are_no_level():
    net = _make(deep=[[{"cell": Cell()}]])

    assert list(net.vars(level=1)) == ["deep.0.0.cell.W", "deep.0.0.cell.V"]


def test_a_shared_variable_stands_under_both_paths():
    node = _make(a=V, b=[V])

    assert node.vars() == {"a": V, "b.0": V} and list(node.vars().unique()) == ["a"]


def test_a_shared_node_stands_under_both_paths():
    cell = Cell()
    node = _make(a=cell, b=cell)

    assert list(node.vars()) == ["a.W", "a.V", "b.W", "b.V"]
    assert list(node.vars().unique()) == ["a.W", "a.V"]
    assert list(node.nodes().unique()) == ["", "a"]


def test_cycles_end():
    child = _make(W=W)
    parent = _make(child=child, V=V)
    child.parent, child.siblings = parent, [child]
    loop: list[Any] = [V]
    loop.append(loop)

    assert list(parent.vars()) == ["V", "child.W"]
    assert list(parent.nodes()) == ["", "child"]
    assert list(_make(x=loop).vars()) == ["x.0"]


def test_nodes_that_all_refer_to_each_other_are_walked_in_no_time():
    nodes = [_make(W=bo.Variable([0.0])) for _ in range(30)]
    for node in nodes:
        node.others = [other for other in nodes if other is not node]
    net = _make(nodes=nodes)

    assert len(list(walk_nodes(net))) < 30 * 30
    assert next(iter(net.vars().unique())) == "nodes.0.W"
    assert len(net.vars().unique()) == 30


def test_long_lists_of_numbers_hold_nothing():
    node = _make(data=list(range(100_000)), W=W)

    assert list(node.vars()) == ["W"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"d": {"a.b": V, "a": {"b": W}}},
        {"d": {1: V, "1": W}},
        {"d.a": V, "d": {"a": W}},
    ],
)
def test_two_variables_under_one_path_are_refused(attributes):
    node = _make(**attributes)

    with pytest.raises(PathError, match="Two different objects under one path"):
        node.vars()
    with pytest.raises(PathError):
        node.state_dict()


def test_one_variable_under_one_path_twice_is_no_conflict():
    assert list(_make(d={"a.b": V, "a": {"b": V}}).vars()) == ["d.a.b"]


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        (V, ["param"]),
        ([V, W], ["0", "1"]),
        ({"a": [V], "b": W}, ["a.0", "b"]),
        (Cell(), ["W"]),
        ([Cell(), Cell()], ["0.W", "1.W"]),
        (Net().train_vars(), ["gain", "layers.0.W", "layers.1.W", "by_name.exc.W"]),
    ],
    ids=["Variable", "list", "dict", "Node", "Nodes", "collector"],
)
def test_trained_are_variables_that_are_given_and_train_vars_of_nodes(source, paths):
    assert list(train_vars_of(source)) == paths


def test_what_has_no_variables_cannot_be_trained():
    with pytest.raises(TypeError, match=r"b\.0: a float has no Variables"):
        train_vars_of({"a": V, "b": [1.0]})
