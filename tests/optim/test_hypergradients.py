# SPDX-License-Identifier: Apache-2.0
"""Norms of any size, and gradients through steps where a gradient is exactly 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.optim.members import each

optim = bo.optim
SIGNS = (optim.Lion, optim.Rprop)  # piecewise constant in the rate of their signs
LARGE = [
    ([3e25, 4e25], jnp.float32),
    ([3e38, 0.0], jnp.float32),
    ([3e30, 4e30], "bf16"),
]


@pytest.mark.parametrize(("values", "dtype"), LARGE)
def test_a_norm_does_not_overflow(values, dtype):
    grad = jnp.array(values, jnp.bfloat16 if dtype == "bf16" else dtype)

    norm = optim.global_norm({"a": grad})

    expected = np.linalg.norm(np.asarray(grad, np.float64))
    np.testing.assert_allclose(norm, expected, rtol=1e-5)


def test_clipping_keeps_the_direction_of_an_exploding_gradient():
    w = bo.TrainVar(jnp.ones(2))
    opt = optim.SGD(1.0, w, clip_norm=1.0, nonfinite="raise", monitor=True)

    bo.jit(opt.update)(jnp.array([3e25, 4e25]))

    np.testing.assert_allclose(1 - w.value, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(opt.metrics()["grad_norm"], 5e25, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(3e38, jnp.float32), (6e4, jnp.float16), (3e38, jnp.bfloat16)],
)
def test_clipping_is_right_where_the_norm_itself_is_infinite(value, dtype):
    grad = jnp.full(4, value, dtype)

    for clip in (optim.clip_by_norm, optim.clip_by_global_norm):
        np.testing.assert_allclose(np.asarray(clip(grad, 1.0), float), 0.5, rtol=1e-2)


@pytest.mark.parametrize("bad", [jnp.inf, jnp.nan])
def test_a_norm_of_what_is_not_finite_is_not_finite(bad):
    assert not np.isfinite(optim.global_norm({"a": jnp.array([bad, 1.0])}))


def _loss_after_two_steps(opt, grad):
    params = {"w": jnp.array([[1.0, 2.0], [0.5, 2.0]])}
    state = opt.init(params)

    def loss(rate):
        held = {**state, "groups.default.schedule.numbers": jnp.array([rate])}
        new = params
        for _ in range(2):
            new, held = opt.apply(new, held, {"w": grad * new["w"]})
        return jnp.sum(new["w"] ** 2)

    return loss


@pytest.mark.more
@each(whole=False, but=SIGNS)
def test_a_silent_neuron_leaves_hypergradients_finite(member):
    loss = _loss_after_two_steps(member.make(), jnp.array([[2.0, 0.0], [2.0, 0.0]]))
    rate = 0.1

    found = jax.grad(loss)(rate)

    step = 0.002
    expected = (loss(rate + step) - loss(rate - step)) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


def test_gradients_through_clipping_are_finite_where_all_are_zero():
    slope = jax.grad(lambda g: optim.clip_by_global_norm({"a": g}, 1.0)["a"].sum())

    np.testing.assert_array_equal(slope(jnp.zeros(2)), 1.0)
