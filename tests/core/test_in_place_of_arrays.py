# SPDX-License-Identifier: Apache-2.0
"""Functions of JAX take a Variable for its value, or the error says `.value`.

What was tried, module by module: of ``jax.numpy``, ``jax.random``, ``jax.scipy`` and
``jax.nn`` all work that take an array, but for those that give it to `jax.lax`.
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
}
REFUSED = {
    "jax.nn.sigmoid": lambda x: jax.nn.sigmoid(x),
    "jax.scipy.stats.norm.isf": lambda x: jsp.stats.norm.isf(x),
    "jax.lax.tanh": lambda x: jax.lax.tanh(x),
    "jax.lax.cumsum": lambda x: jax.lax.cumsum(x),
    "jax.lax.dot": lambda x: jax.lax.dot(x, x),
    "jax.lax.select_n": lambda x: jax.lax.select_n(x > 0, x, x),
    "jax.lax.dynamic_index_in_dim": lambda x: jax.lax.dynamic_index_in_dim(x, 0),
    "jitted": jax.jit(lambda x: jax.lax.exp(x)),
}


@pytest.fixture
def variable():
    node = bo.Node()
    node.gain = bo.Variable([[0.2, 0.1], [0.1, 0.4]])
    return node.gain


@pytest.mark.sampled(17)
@pytest.mark.parametrize("function", WORK)
def test_a_variable_stands_for_its_value(function, variable):
    got, expected = WORK[function](variable), WORK[function](variable.value)

    got = got.value if isinstance(got, bo.Variable) else got  # trees keep their kind
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("function", REFUSED)
def test_or_the_error_says_the_mend(function, variable):
    with pytest.raises(ValueError, match="__jax_array__") as caught:
        bo.jit(lambda: REFUSED[function](variable))()

    assert "give them `variable.value`" in caught.value.__notes__[-1]
