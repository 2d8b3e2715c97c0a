# SPDX-License-Identifier: Apache-2.0
"""A random state advances by itself and is saved like any Variable."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import VariableError


def _draws(rng, n=3):
    return [rng.normal((2,)).tolist() for _ in range(n)]


def test_the_same_seed_gives_the_same_numbers():
    a, b = _draws(bo.RandomState(7)), _draws(bo.RandomState(7))

    assert a == b and a[0] != a[1] and a != _draws(bo.RandomState(8))


def test_numbers_are_those_of_jax_random():
    state, key = jax.random.split(jax.random.key(3))
    expected = jax.random.uniform(key, (4,), minval=-1.0)

    rng = bo.RandomState(3)

    np.testing.assert_array_equal(rng.uniform((4,), minval=-1.0), expected)
    assert jax.random.key_data(rng.value).tolist() == (
        jax.random.key_data(state).tolist()
    )


def test_compiled_code_gives_the_same_numbers():
    eager, compiled = bo.RandomState(1), bo.RandomState(1)
    step = bo.jit(lambda: compiled.normal((2,)))

    assert _draws(eager) == [step().tolist() for _ in range(3)]


def test_a_loop_gives_the_same_numbers():
    eager, looped = bo.RandomState(1), bo.RandomState(1)

    out = bo.for_loop(lambda _: looped.normal((2,)), jnp.arange(3))

    assert out.tolist() == _draws(eager)


def test_seed_starts_anew():
    rng = bo.RandomState(0)
    first = _draws(rng)

    rng.seed(0)

    assert _draws(rng) == first


@pytest.mark.parametrize(
    "seed", [jax.random.key(5), jax.random.PRNGKey(5), np.int64(5), bo.RandomState(5)]
)
def test_a_seed_may_be_a_key_of_either_style(seed):
    assert _draws(bo.RandomState(seed)) == _draws(bo.RandomState(5))


def test_several_keys_are_no_seed():
    with pytest.raises(VariableError, match=r"keys of shape \(3,\)"):
        bo.RandomState(jax.random.split(jax.random.key(0), 3))


def test_split_keys_gives_fresh_keys():
    rng = bo.RandomState(0)

    keys = jax.random.key_data(jnp.concatenate([rng.split_keys(3), rng.split_keys(2)]))

    assert len({tuple(key) for key in keys.tolist()}) == 5


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_a_copy_goes_on_alone_from_the_same_state(copied):
    rng = bo.RandomState(0)
    rng.normal()
    twin = copied(rng)

    assert type(twin) is bo.RandomState
    assert _draws(twin) == _draws(rng)


def test_the_state_dict_holds_the_typed_key():
    node, other = bo.Node(), bo.Node()
    node.rng, other.rng = bo.RandomState(1), bo.RandomState(2)
    node.rng.normal()

    other.load_state_dict(node.state_dict())

    assert _draws(node.rng) == _draws(other.rng)


def test_a_random_state_takes_keys_only():
    rng = bo.RandomState(0, name="rng")

    with pytest.raises(VariableError, match="RandomState 'rng'"):
        rng.value = jnp.zeros((), jnp.uint32)


SAMPLES = {
    "bernoulli": (lambda r: r.bernoulli(0.3, (4,)), (4,), jnp.bool_),
    "randint": (lambda r: r.randint((4,), 0, 3), (4,), jnp.int32),
    "permutation": (lambda r: r.permutation(4), (4,), jnp.int32),
    "choice": (lambda r: r.choice(9, (2,), replace=False), (2,), jnp.int32),
    "poisson": (lambda r: r.poisson(2.0, (4,)), (4,), jnp.int32),
    "exponential": (lambda r: r.exponential((4,)), (4,), jnp.float32),
    "gamma": (lambda r: r.gamma(2.0, (4,)), (4,), jnp.float32),
    "normal": (lambda r: r.normal((2, 2)), (2, 2), jnp.float32),
    "uniform": (lambda r: r.uniform(), (), jnp.float32),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_distribution_has_its_shape_and_advances(name):
    draw, shape, dtype = SAMPLES[name]
    rng = bo.RandomState(0)
    before = jax.random.key_data(rng.value).tolist()

    out = draw(rng)

    assert (out.shape, out.dtype) == (shape, dtype)
    assert jax.random.key_data(rng.value).tolist() != before
