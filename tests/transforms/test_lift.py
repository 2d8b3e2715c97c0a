# SPDX-License-Identifier: Apache-2.0
"""Transforms of JAX lifted to functions that write Variables."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import checkify

import brainopt as bo

ORDERS = {
    "eager": bo.checkify,
    "jit around": lambda f: bo.jit(bo.checkify(f)),
    "jit inside": lambda f: bo.checkify(bo.jit(f)),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("by", "fails"), [(1.0, False), (5.0, True)])
def test_what_was_written_is_kept_whether_a_check_fails_or_not(order, by, fails):
    rate = bo.Variable(3.0)

    def step(by):
        rate.value = rate.value - by
        checkify.check(rate.value >= 0, "negative rate")
        return rate.value * 10

    checked = ORDERS[order](step)
    for done in (1, 2):
        rate.value = 3.0
        error, out = checked(by)
        assert (error.get() is not None) == fails, done
        assert float(rate) == 3.0 - by
        assert float(out) == 10 * (3.0 - by)


def test_a_check_of_floats_sees_the_values_of_variables():
    w = bo.Variable(0.0)
    checked = bo.checkify(lambda x: x / w.value, errors=checkify.float_checks)

    error, _ = checked(1.0)

    assert "division by zero" in (error.get() or "")


@pytest.mark.parametrize("outer", [lambda f: f, bo.jit], ids=["eager", "jit"])
def test_a_lifted_transform_commits_what_the_function_wrote(outer):
    count = bo.Variable(0.0)

    def add(x, *, times):
        count.value += x * times
        return jnp.sin(count.value)

    lifted = outer(bo.lift(jax.checkpoint)(functools.partial(add, times=2.0)))

    assert float(lifted(1.5)) == pytest.approx(0.14112, abs=1e-5)
    assert float(count) == 3.0
