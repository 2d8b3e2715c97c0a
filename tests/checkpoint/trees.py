# SPDX-License-Identifier: Apache-2.0
"""Data for the checkpoint tests, and the question whether two trees are the same."""

import jax
import jax.numpy as jnp
import numpy as np

from brainopt import checkpoint

FLAT = {"a.W": np.arange(6.0, dtype="f4").reshape(2, 3), "b": np.zeros(3, "i4")}


def mixed_tree(rng, size=300):
    """A tree with some of everything, of about ``4 * size`` payload bytes and more."""
    return {
        "net": {"W": rng.normal(size=(size // 10, 10)).astype("f4"), "b": np.zeros(3)},
        "bf": jnp.arange(9, dtype="bfloat16"),
        "key": jax.random.key(7),
        "flag": np.array([True, False]),
        "none": np.zeros((0, 4), "i2"),
        "list": [1, 2.5, None, (True, 1j), "ü", b"\0", 2**80],
        "text": "long " * 1000,
    }


def same(one, two):
    """Whether two trees have equal types, dtypes, shapes and bits throughout."""
    if isinstance(one, dict):
        return (
            type(two) is dict
            and list(one) == list(two)
            and all(same(one[k], two[k]) for k in one)
        )
    if isinstance(one, list | tuple):
        return (
            type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
        )
    if isinstance(one, jax.Array) and jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data
        return one.dtype == two.dtype and same(np.asarray(data(one)), data(two))
    if isinstance(one, np.ndarray | np.generic | jax.Array):
        one, two = np.asarray(one), np.asarray(two)
        equal = one.shape == two.shape and one.dtype == two.dtype
        return equal and one.tobytes() == two.tobytes()
    if type(one) is int:
        return type(two) is int and one == two
    return type(one) is type(two) and repr(one) == repr(two)


def check_format(name):
    """Save, load, verify and list a flat tree at an address; return what was listed."""
    checkpoint.save(name, FLAT, verify=True)
    assert same(FLAT, checkpoint.load(name))
    checkpoint.verify(name)
    told = checkpoint.inspect(name)
    assert [entry.path for entry in told.entries] == list(FLAT)
    return told
