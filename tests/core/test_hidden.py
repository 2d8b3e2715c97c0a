# SPDX-License-Identifier: Apache-2.0
"""A Variable in a place that the walk does not enter is told of, by its attribute."""

import functools
import itertools
import types
import warnings

import jax
import pytest

import brainopt as bo
from brainopt.errors import StateWarning

_count = itertools.count()


def _method(v):
    return types.MethodType(lambda self: self.v.value, types.SimpleNamespace(v=v))


class Plain:
    def __init__(self, v):
        self.held = [v]


HOLDERS = {
    "set": lambda v: {v},
    "set in a list": lambda v: [{"a": frozenset([v])}],
    "key of a dict": lambda v: {v: 1},
    "closure": lambda v: lambda x: x * v.value,
    "default": lambda v: lambda x, v=v: x * v.value,
    "bound method": _method,
    "partial": lambda v: functools.partial(print, v),
    "plain object": Plain,
    "jax.jit": lambda v: jax.jit(lambda: v.value),
    "bo.jit": lambda v: bo.jit(lambda: v.value),
    "Node in a closure": lambda v: functools.partial(print, _node(v=v)),
}
DOORS = {
    "train_vars": lambda node: node.train_vars(),
    "state_dict": lambda node: node.state_dict(),
    "optimizer": lambda node: bo.optim.SGD(0.1, node),
}


def _node(**attributes):
    # A class of its own, as each attribute of a class is told of once.
    node = type(f"Net{next(_count)}", (bo.Node,), {})()
    node.w = bo.TrainVar([1.0])
    for key, value in attributes.items():
        setattr(node, key, value)
    return node


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("door", DOORS)
def test_a_hidden_variable_is_told_of_once(holder, door):
    node = _node(act=HOLDERS[holder](bo.TrainVar([1.0])))
    top = _node(layers=[node])

    with pytest.warns(StateWarning, match=rf"{type(node).__name__}\.act holds") as seen:
        DOORS[door](top)

    assert len(seen) == 1 and seen[0].filename == __file__
    DOORS[door](top)


@pytest.mark.parametrize("holder", [h for h in HOLDERS if h != "Node in a closure"])
@pytest.mark.parametrize("door", DOORS)
def test_one_that_has_a_path_as_well_is_not(holder, door):
    v = bo.TrainVar([1.0])
    node = _node(act=HOLDERS[holder](v), v=v)

    DOORS[door](_node(layers=[node]))


def test_one_in_an_attribute_of_the_class_is_told_of():
    cls = type("Shared", (bo.Node,), {"w": bo.TrainVar([1.0])})

    with pytest.warns(StateWarning, match=r"Shared\.w holds"):
        cls().train_vars()


def test_a_node_may_refer_to_what_owns_it():
    node = _node()
    top = _node(part=node)
    node.act = functools.partial(print, top)

    node.state_dict()
    bo.optim.SGD(0.1, top)


@pytest.mark.more
def test_large_data_are_not_searched_for_long():
    node = _node(data=types.SimpleNamespace(rows=[object() for _ in range(100_000)]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node.train_vars()
