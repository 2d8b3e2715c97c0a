# SPDX-License-Identifier: Apache-2.0
"""`check_gradients` passes what is the slope of a loss, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo


class Cell(bo.Node):
    def __init__(self, dtype="float32"):
        self.w = bo.TrainVar(jnp.array([0.5, -0.3, 0.8], dtype))
        self.b = bo.TrainVar(jnp.array([0.1], dtype))
        self.v = bo.Variable(jnp.zeros(3, dtype))

    def __call__(self, x):
        self.v.value = jnp.tanh(0.9 * self.v + self.w.value * x + self.b.value)
        return self.v.value


def _loss(cell, pass_through=lambda x: x):
    xs = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3).astype(cell.w.dtype)
    return lambda: pass_through(bo.for_loop(cell, xs)).sum() + 3.0


@jax.custom_jvp
def _wrong(x):
    return x**2


_wrong.defjvp(lambda primals, tangents: (primals[0] ** 2, 1.9 * tangents[0]))

WRONG = {
    "stop_gradient": lambda x: x + 0.2 * jax.lax.stop_gradient(x),
    "custom derivative": _wrong,
    "jump": lambda x: jnp.round(10 * x) / 10 + x,
}


def test_slopes_are_those_of_numpy():
    w = bo.TrainVar([1.0, -2.0], name="w")

    checks = bo.debug.check_gradients(lambda x: (w.value**3 * x).sum(), w, 2.0, seed=7)

    random = np.random.default_rng(7)
    for check in checks:
        slope = (6.0 * np.array([1.0, 4.0])) @ random.standard_normal(2)
        np.testing.assert_allclose(check.gradient, slope, rtol=1e-5)
        np.testing.assert_allclose(check.differences, slope, rtol=1e-3)


def test_a_loss_that_writes_state_passes_and_keeps_its_state():
    cell = Cell()
    cell.v.value = jnp.full(3, 0.25)

    checks = bo.debug.check_gradients(_loss(cell), cell, directions=3)

    assert [check.path for check in checks] == ["w"] * 3 + ["b"] * 3
    assert cell.v.value.tolist() == [0.25] * 3
    assert cell.w.value.tolist() == Cell().w.value.tolist()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_named_by_path(name):
    cell = Cell()

    with pytest.raises(bo.errors.GradientError, match=r"\n  w: .* by the gradient"):
        bo.debug.check_gradients(_loss(cell, WRONG[name]), cell)


def test_a_complex_variable_passes():
    z = bo.TrainVar(jnp.array([1.0 + 2.0j, -0.5j]))

    checks = bo.debug.check_gradients(lambda: (jnp.abs(z.value) ** 4).sum(), {"z": z})

    assert all(check.fits for check in checks)
