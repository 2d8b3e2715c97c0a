# SPDX-License-Identifier: Apache-2.0
"""Collectors are dicts that refuse conflicts and remember paths."""

import copy
import pickle

import jax
import pytest

import brainopt as bo
from brainopt.core import NodeCollector, VarCollector
from brainopt.errors import PathError

V, W, T = bo.Variable([1.0]), bo.Variable([2.0, 3.0]), bo.TrainVar([4.0])


def test_a_key_never_changes_its_variable():
    found = VarCollector({"a": V})

    found["a"] = V
    for change in (
        lambda: found.__setitem__("a", W),
        lambda: found.update({"a": W}),
        lambda: found.update(a=W),
        lambda: found + {"a": W},
        lambda: found | {"a": W},
    ):
        with pytest.raises(PathError, match="a: An unnamed Variable and An unnamed"):
            change()

    assert found == {"a": V}


def test_a_conflict_shows_kinds_not_numbers():
    a, b = bo.Variable([1.0], name="first"), bo.TrainVar([1.0], name="second")

    with pytest.raises(PathError) as caught:
        VarCollector([("w", a), ("w", b)])

    assert "w: Variable 'first' and TrainVar 'second'" in str(caught.value)
    assert "1." not in str(caught.value)


def test_a_var_collector_holds_variables_only():
    with pytest.raises(TypeError, match="a: a float is no Variable"):
        VarCollector({"a": 1.0})


def test_plus_joins_and_leaves_both_as_they_were():
    a, b = VarCollector({"a": V}), VarCollector({"b": W})

    both = a + b

    assert type(both) is VarCollector
    assert list(both) == ["a", "b"] and list(a) == ["a"]
    assert a | {"c": T} == {"a": V, "c": T}


def test_minus_takes_a_mapping_keys_or_objects():
    all_ = VarCollector({"a": V, "b": W, "c": V})

    assert list(all_ - {"a": V}) == ["b", "c"]
    assert list(all_ - ["b"]) == ["a", "c"]
    assert list(all_ - [V]) == ["b"]
    assert list(all_ - all_.subset(bo.TrainVar)) == ["a", "b", "c"]


@pytest.mark.parametrize("gone", [{"a": W}, {"x": V}, ["x"], [W], [V, W], (W,)])
def test_minus_refuses_what_is_not_there(gone):
    with pytest.raises(PathError, match="not there"):
        VarCollector({"a": V}) - gone


def test_subset_and_not_subset_choose_by_kind():
    found = VarCollector({"a": V, "t": T})

    assert list(found.subset(bo.TrainVar)) == ["t"]
    assert list(found.subset(bo.Variable)) == ["a", "t"]
    assert list(found.not_subset(bo.TrainVar)) == ["a"]
    assert list(found.subset(bo.TrainVar, bo.RandomState)) == ["t"]


def test_include_and_exclude_choose_by_the_very_class_as_in_brainpy():
    found = VarCollector({"a": V, "t": T})

    assert list(found.include(bo.Variable)) == ["a"]
    assert list(found.include(bo.Variable, bo.TrainVar)) == ["a", "t"]
    assert list(found.exclude(bo.Variable)) == ["t"]
    assert list(found.exclude(bo.RandomState)) == ["a", "t"]


def test_unique_keeps_the_first_key_of_each():
    assert list(VarCollector({"a": V, "b": W, "c": V}).unique()) == ["a", "b"]


def test_dict_and_data_give_values():
    found = VarCollector({"b": W, "a": V})

    assert {k: v.tolist() for k, v in found.dict().items()} == {
        "b": [2.0, 3.0],
        "a": [1.0],
    }
    assert type(found.dict()) is dict
    assert [v.tolist() for v in found.data()] == [[2.0, 3.0], [1.0]]


def test_paths_are_remembered_under_absolute_names():
    net = bo.Node()
    net.layer = bo.Node()
    net.layer.W, net.V = bo.TrainVar([1.0]), bo.Variable([1.0])

    found = net.vars("absolute")
    kept = (found.subset(bo.TrainVar) + {"x": V}).unique()

    assert list(found) == [f"{net.name}.V", f"{net.layer.name}.W"]
    assert found.paths == {net.layer.W: "layer.W", net.V: "V"}
    assert kept.paths[net.layer.W] == "layer.W" and kept.paths[V] == "x"


@pytest.mark.parametrize("make", [copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_collectors_are_copied(make):
    found = VarCollector({"k": V}, {V: "path"})

    new = make(found)

    assert type(new) is VarCollector and list(new) == ["k"]
    assert list(new.paths.values()) == ["path"]


def test_a_collector_is_a_pytree_in_its_own_order():
    found = VarCollector({"b": W, "a": V})

    out = jax.tree.map(lambda x: x * 2, found)

    assert list(out) == ["b", "a"] and out["a"].value.tolist() == [2.0]
    assert V.value.tolist() == [1.0]


def test_repr_has_one_line_for_each():
    shown = repr(VarCollector({"a": V, "b": W}))

    assert shown.startswith("VarCollector(2)\n  a: Variable(shape=(1,)")
    assert len(shown.splitlines()) == 3


def test_a_node_collector_refuses_conflicts_too():
    with pytest.raises(PathError, match="a: Node and Node"):
        NodeCollector([("a", bo.Node()), ("a", bo.Node())])
