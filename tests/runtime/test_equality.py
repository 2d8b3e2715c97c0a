# SPDX-License-Identifier: Apache-2.0
"""Structures are equal by content."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainopt.runtime import Frozen, same

EQUAL = [
    (float("nan"), float("nan")),
    ([1, (2.0, "x")], [1, (2.0, "x")]),
    ({"a": np.ones(2)}, {"a": np.ones(2)}),
    (np.array([np.nan]), np.array([np.nan])),
    (jnp.arange(2), jnp.arange(2)),
    (jax.random.key(1), jax.random.key(1)),
    (np.array([{"a": 1}], object), np.array([{"a": 1}], object)),
]
UNEQUAL = [
    (1, 1.0),
    (1, True),
    ([1], (1,)),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (np.ones(2), np.ones(3)),
    (np.ones(2), np.ones(2, np.float32)),
    (jax.random.key(1), jax.random.key(2)),
    (object(), object()),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_content_is_the_same(a, b):
    assert same(a, b) and Frozen(a) == Frozen(b)
    assert hash(Frozen(a)) == hash(Frozen(b))


@pytest.mark.parametrize(("a", "b"), UNEQUAL)
def test_other_content_or_type_is_not(a, b):
    assert not same(a, b) and Frozen(a) != Frozen(b)


def test_what_cannot_be_compared_is_itself_only():
    class Odd:
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()

    assert same(odd, odd) and not same(odd, Odd())


def test_tracers_are_compared_by_identity():
    outcome = []

    jax.jit(lambda x, y: outcome.extend([same(x, x), same(x, y)]))(1.0, 1.0)

    assert outcome == [True, False]
