# SPDX-License-Identifier: Apache-2.0
"""An average is that of NumPy, through every way in, and is saved with the run."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo


@pytest.mark.parametrize("through", ["eager", "jit", "for_loop"])
def test_the_mean_is_that_of_numpy(through):
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    weights = np.random.default_rng(1).uniform(size=(5, 7)).astype(np.float32)
    average = bo.Average()
    if through == "for_loop":
        bo.for_loop(average.add, (values, weights))
    else:
        add = bo.jit(average.add) if through == "jit" else average.add
        for row, weight in zip(values, weights, strict=True):
            add(row, weight)

    right = np.average(values.astype(np.float64), weights=weights.astype(np.float64))
    np.testing.assert_allclose(average.mean(), right, rtol=1e-5)


def test_bools_give_an_accuracy():
    accuracy = bo.Average()

    accuracy.add(jnp.array([True, False, True, True]))

    assert float(accuracy.mean()) == 0.75


def test_it_does_not_stall_where_float32_does():
    average = bo.Average()
    average.total.value = average.weight.value = jnp.float32(2**24)

    bo.for_loop(lambda _: average.add(1.0), jnp.arange(64))

    assert float(average.weight) == 2**24 + 64


def test_it_is_saved_and_reset_like_other_state(tmp_path):
    average, other = bo.Average(), bo.Average()
    average.add([1.0, 2.0])
    average.save_states(tmp_path / "a.bo")
    other.load_states(tmp_path / "a.bo")
    assert float(other.mean()) == 1.5

    other.reset()

    assert np.isnan(other.mean())
