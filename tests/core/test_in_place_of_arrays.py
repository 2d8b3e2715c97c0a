# SPDX-License-Identifier: Apache-2.0
"""Functions of JAX take a Variable for its value, or the error says `.value`.

What was tried of ``jax.numpy``, ``jax.random``, ``jax.scipy``, ``jax.nn`` and
``jax.lax``, eagerly, compiled and differentiated. A Variable as a carry of a loop of
`jax.lax` is a tree, and the body has to return a tree like it.
"""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest

import brainopt as bo

KEY = jax.random.key(0)
WORK = {
    "jnp.sum": lambda x: jnp.sum(x),
    "jnp.where": lambda x: jnp.where(x > 0, x, 0),
    "jnp.concatenate": lambda x: jnp.concatenate([x, x]),
    "jnp.einsum": lambda x: jnp.einsum("ij,jk", x, x),
    "jnp.linalg.norm": lambda x: jnp.linalg.norm(x),
    "jnp.fft.fft": lambda x: jnp.fft.fft(x),
    "jax.nn.relu": lambda x: jax.nn.relu(x),
    "jax.nn.softmax": lambda x: jax.nn.softmax(x),
    "jax.nn.silu": lambda x: jax.nn.silu(x),
    "jax.random.permutation": lambda x: jax.random.permutation(KEY, x),
    "jax.random.choice": lambda x: jax.random.choice(KEY, x),
    "jax.random.categorical": lambda x: jax.random.categorical(KEY, x),
    "jax.scipy.special.erf": lambda x: jsp.special.erf(x),
    "jax.scipy.linalg.expm": lambda x: jsp.linalg.expm(x),
    "jax.scipy.stats.norm.pdf": lambda x: jsp.stats.norm.pdf(x),
    "jax.lax.stop_gradient": lambda x: jax.lax.stop_gradient(x),
    "jax.tree.map": lambda x: jax.tree.map(jnp.sin, x),
    "jax.nn.sigmoid": lambda x: jax.nn.sigmoid(x),
    "jax.scipy.stats.norm.isf": lambda x: jsp.stats.norm.isf(x),
    "jax.lax.tanh": lambda x: jax.lax.tanh(x),
    "jax.lax.cumsum": lambda x: jax.lax.cumsum(x),
    "jax.lax.dot": lambda x: jax.lax.dot(x, x),
    "jax.lax.select_n": lambda x: jax.lax.select_n(x > 0, x, x),
    "jax.lax.dynamic_index_in_dim": lambda x: jax.lax.dynamic_index_in_dim(x, 0),
    "jitted": jax.jit(lambda x: jax.lax.exp(x)),
    "jax.nn.gelu": lambda x: jax.nn.gelu(x),
    "jax.nn.logsumexp": lambda x: jax.nn.logsumexp(x),
    "jax.nn.softplus": lambda x: jax.nn.softplus(x),
    "jax.nn.standardize": lambda x: jax.nn.standardize(x),
    "jax.lax.add": lambda x: jax.lax.add(x, x),
    "jax.lax.associative_scan": lambda x: jax.lax.associative_scan(jnp.add, x),
    "jax.lax.broadcast": lambda x: jax.lax.broadcast(x, (2,)),
    "jax.lax.clamp": lambda x: jax.lax.clamp(0.1, x, 0.2),
    "jax.lax.concatenate": lambda x: jax.lax.concatenate([x, x], 0),
    "jax.lax.dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (0, 0), (1, 2)),
    "jax.lax.full_like": lambda x: jax.lax.full_like(x, 1.0),
    "jax.lax.gather": lambda x: jax.lax.dynamic_update_slice(x, x[:1], (1, 0)),
    "jax.lax.logistic": lambda x: jax.lax.logistic(x),
    "jax.lax.map": lambda x: jax.lax.map(jnp.sin, x),
    "jax.lax.reshape": lambda x: jax.lax.reshape(x, (4,)),
    "jax.lax.scan": lambda x: jax.lax.scan(lambda c, y: (c, y * 2), 0.0, x)[1],
    "jax.lax.sort": lambda x: jax.lax.sort(x),
    "jax.lax.top_k": lambda x: jax.lax.top_k(x, 1)[0],
    "jax.scipy.linalg.solve": lambda x: jsp.linalg.solve(x, x),
    "jax.scipy.signal.convolve": lambda x: jsp.signal.convolve(x, x),
    "jax.vmap": lambda x: jax.vmap(lambda y: jax.lax.exp(y))(x),
}


@pytest.fixture
def variable():
    node = bo.Node()
    node.gain = bo.Variable([[0.2, 0.1], [0.1, 0.4]])
    return node.gain


@pytest.mark.parametrize("function", WORK)
def test_a_variable_stands_for_its_value(function, variable):
    got, expected = WORK[function](variable), WORK[function](variable.value)

    got = got.value if isinstance(got, bo.Variable) else got  # trees keep their kind
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("function", ["jax.lax.tanh", "jax.nn.sigmoid", "jitted"])
def test_also_where_it_is_traced(function, variable):
    def loss(x):
        return WORK[function](x).sum()

    expected = jax.grad(loss)(variable.value)
    by_variable = bo.grad(lambda: loss(variable), [variable])

    for grad in (by_variable, bo.jit(by_variable)):
        assert np.allclose(grad()[0], expected)


def test_a_write_is_seen_by_it(variable):
    def body(_):
        variable.value = jax.lax.mul(variable, jax.lax.full_like(variable, 2.0))
        return jax.lax.neg(variable)

    out = bo.for_loop(body, jnp.arange(2))

    assert np.allclose(out[-1], [[-0.8, -0.4], [-0.4, -1.6]])


def test_as_a_carry_the_error_says_the_mend(variable):
    step = bo.jit(lambda: jax.lax.fori_loop(0, 2, lambda _, c: c + 1, variable))

    with pytest.raises(TypeError, match="pytree structure") as caught:
        step()

    assert "variable.value" in caught.value.__notes__[-1]
