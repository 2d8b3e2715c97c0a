# SPDX-License-Identifier: Apache-2.0
"""What a Variable is made of, and what it takes in the place of what it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import VariableError


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), (), (np.int64(2), 3), 0])
def test_an_int_or_a_tuple_of_ints_is_a_shape(shape):
    v = bo.Variable(shape)

    assert v.shape == np.zeros(shape).shape
    assert v.dtype == jnp.float32 and not np.asarray(v).any()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([2, 3], np.array([2, 3], np.int32)),
        ([[1.5, 2.5]], np.array([[1.5, 2.5]], np.float32)),
        ([], np.zeros(0, np.float32)),
        (True, np.array(True)),
        (0.5, np.array(0.5, np.float32)),
        (1j, np.array(1j, np.complex64)),
        ((1.0, 2), np.array([1.0, 2.0], np.float32)),
        ((True, False), np.array([True, False])),
        (np.int32(5), np.array(5, np.int32)),
        (np.float64(5), np.array(5, np.float32)),
        (np.arange(3, dtype=np.int8), np.array([0, 1, 2], np.int8)),
    ],
)
def test_everything_else_is_data(data, expected):
    v = bo.Variable(data)

    assert isinstance(v.value, jax.Array)
    assert v.dtype == expected.dtype
    np.testing.assert_array_equal(v.value, expected)


@pytest.mark.parametrize("data", [1.0, True, [1, 2], jnp.asarray(2.0), 3, 1j])
def test_nothing_is_weakly_typed(data):
    assert not bo.Variable(data).value.weak_type


def test_dtype_chooses_the_dtype():
    assert bo.Variable((2,), jnp.bfloat16).dtype == jnp.bfloat16
    assert bo.Variable([1, 2], jnp.float16).dtype == jnp.float16
    assert bo.Variable(jnp.ones(2), jnp.int8).dtype == jnp.int8


@pytest.mark.parametrize(
    "data", [None, "abc", object(), {"a": "x"}, [[1.0], [1.0, 2.0]], -1, (2, -3)]
)
def test_what_is_neither_shape_nor_numbers_is_refused(data):
    with pytest.raises(VariableError):
        bo.Variable(data)


def test_the_place_of_a_bad_leaf_is_named():
    with pytest.raises(VariableError, match=r"a str at \['b'\]"):
        bo.Variable({"a": [1.0], "b": "x"})


@pytest.mark.parametrize("size", [1, 16, 4096, 100_000])
def test_a_later_numpy_write_changes_nothing(size):
    memory = np.zeros(size + 64, np.float32)
    start = -memory.ctypes.data % 64 // 4
    data = memory[start : start + size]  # aligned, which jax likes to share
    made, assigned = bo.Variable(data), bo.Variable((size,))
    assigned.value = data

    data[:] = 7.0

    assert not np.asarray(made).any() and not np.asarray(assigned).any()


def test_numpy_sees_a_variable_but_cannot_write_it():
    v = bo.Variable([1.0, 2.0])

    seen, owned = np.asarray(v), np.array(v)
    owned[0] = 9.0

    assert not seen.flags.writeable
    assert v.value.tolist() == [1.0, 2.0]


def test_a_variable_of_a_variable_holds_its_value():
    v = bo.Variable([1.0])
    w = bo.TrainVar(v)

    w += 1

    assert v.value.tolist() == [1.0] and w.value.tolist() == [2.0]


def test_a_pytree_is_held_as_it_is():
    v = bo.Variable({"W": [[1.0, 2.0]], "b": bo.Variable([3.0]), "n": 4.0})

    assert jax.tree.map(jnp.shape, v.value) == {"W": (1, 2), "b": (1,), "n": ()}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(v.value))


def test_a_pytree_is_written_leaf_by_leaf_or_whole():
    v = bo.Variable({"W": jnp.zeros(2), "b": jnp.zeros(1)})

    v.value = {"W": [1, 2], "b": np.ones(1, np.float32)}
    v["W"] = v["W"] * 3

    assert v.value["W"].tolist() == [3.0, 6.0] and v.value["b"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({"W": jnp.zeros(2)}, "the structure"),
        ({"W": jnp.zeros(3), "b": jnp.zeros(1)}, r"W: shape \(3,\) for shape \(2,\)"),
        ({"W": jnp.zeros(2), "b": jnp.zeros(1, int)}, "b: dtype int32 for dtype float"),
        (jnp.zeros(2), "an array for the structure"),
    ],
)
def test_a_pytree_of_another_kind_is_refused_by_path(new, says):
    v = bo.Variable({"W": jnp.zeros(2), "b": jnp.zeros(1)})

    with pytest.raises(VariableError, match=says):
        v.value = new


def test_every_misfit_of_a_pytree_is_listed():
    v = bo.Variable({"W": jnp.zeros(2), "b": jnp.zeros(1)})

    with pytest.raises(VariableError, match=r"(?s)W: shape.*b: dtype"):
        v.value = {"W": jnp.zeros(3), "b": jnp.zeros(1, bool)}


@pytest.mark.parametrize(
    "new", [jnp.zeros(4), jnp.zeros((3, 1)), 1.0, [1.0, 2.0], jnp.zeros(3, int), None]
)
def test_a_write_keeps_shape_and_dtype_or_names_the_variable(new):
    v = bo.TrainVar([1.0, 2.0, 3.0], name="W")

    with pytest.raises(VariableError, match="TrainVar 'W' cannot take this value"):
        v.value = new

    assert v.value.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("first", "new"),
    [
        (np.float32([1.0, 2.0]), [3, 4]),
        (np.float16([1.0, 2.0]), [3.0, 4.0]),
        (np.float32([1.0, 2.0]), np.float64([3.0, 4.0])),
        (np.int8([1, 2]), [3, 4]),
        (np.complex64([1, 2]), [3.0, 4]),
    ],
)
def test_numbers_take_the_dtype_of_the_variable(first, new):
    v = bo.Variable(first)

    v.value = new

    assert v.dtype == first.dtype
    assert v.value.tolist() == [3, 4] and not v.value.weak_type


@pytest.mark.parametrize(
    ("first", "new"), [(np.int32(1), 0.5), (np.int8(1), 300), (np.bool_(1), 2)]
)
def test_numbers_that_would_lose_their_kind_are_refused(first, new):
    v = bo.Variable(first)

    with pytest.raises(VariableError):
        v.value = new

    assert int(v) == 1


@jax.tree_util.register_pytree_node_class
class UsedOnce:
    """A value that gives its array away once, as `eqx.nn.State` does."""

    def __init__(self, array):
        self.array, self.used = array, False

    def take(self):
        assert not self.used
        self.used = True
        return self.array

    def tree_flatten(self):
        assert not self.used
        return (self.array,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, bo.jit, bo.remat], ids=["eager", "jit", "remat"]
)
@pytest.mark.parametrize("inside", [False, True], ids=["itself", "in a dict"])
def test_a_value_that_is_used_up_stays_good_in_its_variable(inside, wrap):
    value = UsedOnce(jnp.array(1.0))
    v = bo.Variable({"a": value} if inside else value)

    @wrap
    def step():
        used = v.value["a"] if inside else v.value
        new = UsedOnce(used.take() + 1)
        v.value = {"a": new} if inside else new

    for _ in range(3):
        step()

    assert float((v.value["a"] if inside else v.value).array) == 4.0
