# SPDX-License-Identifier: Apache-2.0
"""A view reads and writes part of a Variable."""

import copy
import pickle

import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import VariableError


def test_a_view_writes_through():
    v = bo.Variable([1.0, 2.0, 3.0])
    view = bo.VariableView(v, slice(0, 2))

    view *= 2
    view[0] = 9
    assert v.value.tolist() == [9.0, 4.0, 3.0]

    v.value = jnp.zeros(3)
    assert view.value.tolist() == [0.0, 0.0] and (view + 1).tolist() == [1.0, 1.0]


def test_a_view_keeps_shape_and_dtype():
    view = bo.VariableView(bo.TrainVar([1.0, 2.0, 3.0], name="W"), 0)

    with pytest.raises(VariableError, match=r"TrainVar 'W'\[0\] cannot take"):
        view.value = jnp.zeros(2)
    with pytest.raises(VariableError, match="dtype"):
        bo.VariableView(bo.Variable([1]), 0).value = 0.5


def test_a_view_is_of_a_variable():
    with pytest.raises(TypeError, match="no Variable"):
        bo.VariableView(jnp.ones(2), 0)


def test_a_view_works_inside_a_transform():
    v = bo.Variable([1.0, 2.0])
    view = bo.VariableView(v, 1)

    @bo.jit
    def step():
        view.value += 1

    step()
    step()

    assert v.value.tolist() == [1.0, 4.0]


def test_a_view_is_not_collected():
    node = bo.Node()
    node.W = bo.Variable([1.0])
    node.view = bo.VariableView(node.W, 0)

    assert list(node.vars()) == ["W"]


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copied_view_looks_at_the_copied_variable(make):
    v = bo.Variable([1.0, 2.0])

    w, view = make((v, bo.VariableView(v, 0)))
    view.value = 5.0

    assert w.value.tolist() == [5.0, 2.0] and v.value.tolist() == [1.0, 2.0]


def test_repr_names_the_variable_and_the_place():
    view = bo.VariableView(bo.Variable([1.0, 2.0], name="V"), 1)

    assert repr(view).startswith("VariableView(Variable 'V'[1], shape=()")
