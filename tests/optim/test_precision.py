# SPDX-License-Identifier: Apache-2.0
"""Small changes survive in narrow dtypes, and nothing overflows there."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import brainopt as bo
from brainopt.optim.engine._precision import round_stochastically

NARROW = [jnp.bfloat16, jnp.float16]


def _steps(opt, w, grad, count):
    def body(_):
        opt.update(jnp.full_like(w.value, grad))

    bo.for_loop(body, jnp.arange(count))


def _adamw(dtype, precision, lr=1e-4):
    w = bo.TrainVar(jnp.ones(64, dtype))
    return w, bo.optim.AdamW(lr, w, weight_decay=0.0, precision=precision)


def test_plain_bfloat16_stands_still():
    w, opt = _adamw(jnp.bfloat16, "plain")

    _steps(opt, w, 1.0, 100)

    assert (np.asarray(w.value) == 1).all()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("precision", ["master", "kahan"])
def test_a_hundred_small_steps_arrive(dtype, precision):
    w, opt = _adamw(dtype, precision)

    _steps(opt, w, 1.0, 100)

    ulp = float(jnp.finfo(dtype).eps) / 2  # below 1
    assert np.abs(np.asarray(w.value, float) - 0.99).max() <= ulp


def test_stochastic_rounding_arrives_on_average():
    w, opt = _adamw(jnp.bfloat16, "stochastic")

    _steps(opt, w, 1.0, 100)

    assert abs(float(w.value.astype(float).mean()) - 0.99) < 2e-3
    assert len(np.unique(np.asarray(w.value, float))) > 1


def test_stochastic_rounding_is_unbiased_and_takes_neighbours_only():
    x = jnp.full(20_000, 1.0 + 2**-10)

    rounded = np.asarray(
        round_stochastically(jax.random.key(0), x, jnp.bfloat16), float
    )

    assert set(rounded) == {1.0, 1.0 + 2**-7}
    assert abs(rounded.mean() - x[0]) < 2e-4


def test_exact_values_are_not_rounded_away():
    x = jnp.asarray([1.0, -2.0, 0.0, jnp.inf, 1e30])

    for dtype in NARROW:
        rounded = round_stochastically(jax.random.key(0), x[:4], dtype)
        np.testing.assert_array_equal(rounded.astype(jnp.float32), x[:4])


@pytest.mark.more
def test_stochastic_runs_resume_with_the_same_numbers():
    w, opt = _adamw(jnp.bfloat16, "stochastic")
    _steps(opt, w, 1.0, 5)
    v, other = _adamw(jnp.bfloat16, "stochastic")
    v.value = w.value
    other.load_state_dict(opt.state_dict())

    _steps(opt, w, 1.0, 5)
    _steps(other, v, 1.0, 5)

    np.testing.assert_array_equal(w.value, v.value)


@pytest.mark.parametrize("precision", ["plain", "master", "kahan", "stochastic"])
def test_float32_needs_no_help(precision):
    w, opt = _adamw(jnp.float32, precision)

    _steps(opt, w, 1.0, 3)

    plain, reference = _adamw(jnp.float32, "plain")
    _steps(reference, plain, 1.0, 3)
    np.testing.assert_array_equal(w.value, plain.value)
    assert set(opt.slots["param"]) == {"m", "v"}


def test_a_master_copy_gives_way_to_a_weight_set_by_hand():
    w, opt = _adamw(jnp.bfloat16, "master")
    _steps(opt, w, 1.0, 3)

    w.value = jnp.full(64, 5.0, jnp.bfloat16)
    _steps(opt, w, 1.0, 1)

    assert np.asarray(w.value, float) == pytest.approx(5.0)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("grad", [0.0, 1e-4, 6e4])
def test_narrow_gradients_are_squared_in_float32(dtype, grad):
    w, opt = _adamw(dtype, "plain", lr=1e-3)

    _steps(opt, w, grad, 5)

    expected = 1.0 if grad == 0 else 1 - 5e-3
    found = np.asarray(w.value, float)
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= 8 * float(jnp.finfo(dtype).eps)
    assert opt.slots["param"]["v"].value.dtype == jnp.float32


@pytest.mark.parametrize("dtype", NARROW)
def test_200_steps_of_1e_3_equal_float32_within_an_ulp(dtype):
    w, opt = _adamw(dtype, "master", lr=1e-3)
    wide, reference = _adamw(jnp.float32, "plain", lr=1e-3)

    _steps(opt, w, 1.0, 200)
    _steps(reference, wide, 1.0, 200)

    name = ml_dtypes.bfloat16 if dtype == jnp.bfloat16 else np.float16
    expected = np.asarray(wide.value).astype(name)
    assert (np.asarray(w.value) == expected).all()


def test_the_second_moment_does_not_stall():
    w, opt = _adamw(jnp.bfloat16, "plain")

    _steps(opt, w, 1.0, 3000)

    expected = 1 - 0.999**3000  # kept in bfloat16 it stops at 0.5
    np.testing.assert_allclose(opt.slots["param"]["v"].value, expected, rtol=1e-4)


EIGHT = [jnp.float8_e4m3fn, jnp.float8_e5m2]


@pytest.mark.more
@pytest.mark.parametrize("dtype", EIGHT)
def test_eight_bits_follow_their_master_copy(dtype):
    w = bo.TrainVar(jnp.ones(4, dtype))
    wide = bo.TrainVar(jnp.ones(4))
    settings = {"weight_decay": 0.0, "clip_norm": 9.0, "monitor": True}
    opt = bo.optim.AdamW(0.01, w, precision="master", **settings)
    reference = bo.optim.AdamW(0.01, wide, **settings)

    for _ in range(10):
        opt.update(jnp.ones(4, dtype))
        reference.update(jnp.ones(4))

    np.testing.assert_array_equal(opt.slots["param"]["master"].value, wide.value)
    np.testing.assert_array_equal(
        np.asarray(w.value, float), np.asarray(wide.value.astype(dtype), float)
    )
    assert w.value.dtype == dtype and (np.asarray(w.value, float) < 1).all()


@pytest.mark.parametrize("precision", ["plain", "master", "stochastic"])
def test_eight_bits_stop_at_their_largest_number(precision):
    w = bo.TrainVar(jnp.full(2, 440.0, jnp.float8_e4m3fn))  # above 448 lies NaN

    bo.optim.SGD(100.0, w, precision=precision).update(-jnp.ones(2, w.dtype))

    assert np.asarray(w.value, float).tolist() == [448.0, 448.0]
