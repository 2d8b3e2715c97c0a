# SPDX-License-Identifier: Apache-2.0
"""A Variable in an expression is the array that it holds."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import VariableError

A = np.array([4.0, 9.0, 2.0], np.float32)
B = np.array([3.0, 2.0, 5.0], np.float32)
ARITHMETIC = "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne".split()
BITS = "and_ or_ xor lshift rshift".split()


def _plain(result):
    assert isinstance(result, jax.Array)
    return np.asarray(result)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_and_comparison_give_plain_arrays(name):
    op = getattr(operator, name)
    v, w = bo.Variable(A), bo.TrainVar(B)
    expected = op(A, B)

    for left, right in [(v, w), (v, B), (A, w), (jnp.array(A), w), (v, jnp.array(B))]:
        np.testing.assert_allclose(_plain(op(left, right)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", BITS)
def test_bits_too(name):
    op = getattr(operator, name)
    a, b = np.array([6, 5], np.int32), np.array([3, 1], np.int32)
    v = bo.Variable(a)

    np.testing.assert_array_equal(_plain(op(v, b)), op(a, b))
    np.testing.assert_array_equal(_plain(op(a, bo.Variable(b))), op(a, b))


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.float64(2)])
def test_numbers_stand_on_either_side(number):
    v = bo.Variable(A)

    np.testing.assert_array_equal(_plain(v * number), A * np.float32(2))
    np.testing.assert_array_equal(_plain(number - v), np.float32(2) - A)


def test_unary_operators_and_conversions():
    v, n = bo.Variable([-1.5]), bo.Variable(np.array(3))

    assert ((-v).tolist(), (+v).tolist(), abs(v).tolist()) == ([1.5], [-1.5], [1.5])
    assert (~bo.Variable([True])).tolist() == [False]
    assert (int(n), float(n), complex(n), bool(n)) == (3, 3.0, 3 + 0j, True)
    assert [10, 20, 30, 40][n] == 40
    assert f"{bo.Variable(1.25):.1f}" == "1.2"
    assert float(round(bo.Variable(1.75))) == 2.0
    assert [x.tolist() for x in divmod(bo.Variable([7]), 2)] == [[3], [1]]


@pytest.mark.parametrize(
    "name", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"]
)
def test_in_place_operators_write_the_same_variable(name):
    v = bo.Variable(A)
    expected = getattr(operator, name)(A.copy(), B)

    same = getattr(operator, name)(v, bo.Variable(B))

    assert same is v
    np.testing.assert_allclose(v.value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "act", [lambda n: n.__imul__(0.5), lambda n: n.__itruediv__(2)]
)
def test_in_place_operators_keep_the_dtype(act):
    n = bo.Variable([1, 2])

    with pytest.raises(VariableError, match="dtype float32 for dtype int32"):
        act(n)

    assert n.value.tolist() == [1, 2]


def test_in_place_operators_do_not_grow():
    v = bo.Variable([1.0])

    with pytest.raises(VariableError, match="shape"), jax.numpy_rank_promotion("allow"):
        v += jnp.ones((2, 1))

    assert v.value.tolist() == [1.0]


@pytest.mark.parametrize(
    "index", [0, -1, slice(1), [0, 2], np.array([True, False, True]), (...,), None]
)
def test_indexing_is_that_of_the_array(index):
    v = bo.Variable(A)
    taken = np.array(index) if isinstance(index, list) else index

    np.testing.assert_array_equal(v[taken], A[index])


def test_variables_are_indices():
    v, i = bo.Variable([[1.0, 2.0], [3.0, 4.0]]), bo.Variable([1, 0])

    assert v[i].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert v[i, i].tolist() == [4.0, 1.0]


def test_item_assignment_writes_in_place():
    v, w = bo.Variable(A), bo.Variable([7.0])

    v[0] = w[0]
    v[1:] = bo.Variable([8.0, 9.0])
    v[bo.Variable([True, False, False])] = 1

    assert v.value.tolist() == [1.0, 8.0, 9.0]


def test_items_may_come_as_a_list():
    v, n = bo.Variable(A), bo.Variable(np.array([1, 2], np.int8))

    v[:2] = [5, jnp.float32(6.0)]
    n[:] = (3, 4)

    assert v.value.tolist() == [5.0, 6.0, 2.0] and n.value.tolist() == [3, 4]
    for items in ([300, 1], [0.5, 1.0]):
        with pytest.raises(VariableError, match="cannot take"):
            n[:] = items
    assert n.value.tolist() == [3, 4]


@pytest.mark.parametrize("item", [0.5, jnp.float32(0.5), 1j])
def test_an_item_of_another_kind_is_refused(item):
    n = bo.Variable([1, 2], name="n")

    with pytest.raises(VariableError, match="Variable 'n' of dtype int32 cannot take"):
        n[0] = item

    assert n.value.tolist() == [1, 2]


def test_an_item_out_of_range_is_refused():
    n = bo.Variable(np.array([1, 2], np.uint8))

    with pytest.raises(VariableError, match="cannot take -1"):
        n[0] = -1

    assert n.value.tolist() == [1, 2]


def test_an_item_takes_the_width_of_the_variable(x64, strict_promotion):
    v, h = bo.Variable(A), bo.Variable(A, jnp.bfloat16)

    v[0] = np.float64(7)
    h[0] = jnp.float32(7)
    h[1] = 1

    assert v.value.tolist() == [7.0, 9.0, 2.0] and v.dtype == jnp.float32
    assert h.value.tolist() == [7.0, 1.0, 2.0] and h.dtype == jnp.bfloat16


def test_a_key_among_keys_is_an_item():
    keys = bo.Variable(jax.random.split(jax.random.key(0), 2))

    keys[0] = jax.random.key(7)

    assert jax.random.key_data(keys[0]).tolist() == [0, 7]
    with pytest.raises(VariableError):
        keys[0] = 1.0


def test_an_item_of_another_shape_is_refused():
    v = bo.Variable(A)

    with pytest.raises(ValueError, match="broadcast"):
        v[0] = jnp.ones(2)

    np.testing.assert_array_equal(v.value, A)


JNP = {
    "add": lambda v, w: jnp.add(v, w),
    "stack": lambda v, w: jnp.stack([v, w]),
    "concatenate": lambda v, w: jnp.concatenate([v, w]),
    "where": lambda v, w: jnp.where(v > 3, v, w),
    "dot": lambda v, w: jnp.dot(v, w),
    "einsum": lambda v, w: jnp.einsum("i,i->", v, w),
    "sum": lambda v, w: jnp.sum(v),
    "asarray": lambda v, w: jnp.asarray(v),
    "array": lambda v, w: jnp.array([v, w]),
    "zeros_like": lambda v, w: jnp.zeros_like(v),
}


@pytest.mark.parametrize("name", JNP)
def test_jnp_takes_variables(name):
    expected = np.asarray(JNP[name](jnp.array(A), jnp.array(B)))
    v, w = bo.Variable(A), bo.Variable(B)

    np.testing.assert_array_equal(_plain(JNP[name](v, w)), expected)
    np.testing.assert_array_equal(_plain(bo.jit(lambda: JNP[name](v, w))()), expected)


def test_numpy_takes_variables():
    v, w = bo.Variable(A), bo.Variable(B)

    np.testing.assert_allclose(np.sqrt(v), np.sqrt(A))
    np.testing.assert_array_equal(np.stack([v, w]), np.stack([A, B]))
    np.testing.assert_array_equal(np.from_dlpack(v), A)
    assert np.arange(5)[bo.Variable([0, 4])].tolist() == [0, 4]


def test_jax_transforms_take_variables_as_arguments():
    v = bo.Variable(A)

    np.testing.assert_array_equal(jax.jit(lambda x: x * 2)(v), A * 2)
    np.testing.assert_array_equal(jax.vmap(lambda x: x + 1)(v), A + 1)
    grad = jax.grad(lambda x: jnp.sum(x**2))(v)
    np.testing.assert_array_equal(grad.value, 2 * A)


def test_a_variable_is_iterated_and_searched():
    v = bo.Variable(A)

    assert [float(x) for x in v] == [4.0, 9.0, 2.0]
    assert (len(v), 9.0 in v, 1.0 in v, float(max(v))) == (3, True, False, 9.0)


def test_array_attributes_and_methods_are_there():
    v = bo.Variable([[1.0, 2.0, 3.0]])

    assert (v.shape, v.ndim, v.size, v.T.shape) == ((1, 3), 2, 3, (3, 1))
    assert (float(v.sum()), v.astype(int).dtype) == (6.0, jnp.int32)
    assert v.at[0, 0].set(5.0).tolist() == [[5.0, 2.0, 3.0]]


def test_fill_sets_every_element():
    v = bo.Variable(A)

    v.fill_(2)

    assert v.value.tolist() == [2.0, 2.0, 2.0]


def test_variables_are_keys_by_identity():
    v, w = bo.Variable([1.0]), bo.Variable([1.0])

    assert {v: "v", w: "w"}[w] == "w" and len({v, w, v}) == 2


def test_equality_with_strangers_is_no_error():
    assert (bo.Variable([1.0]) == None) is False  # noqa: E711
    assert (bo.Variable([1.0]) != "x") is True
