# SPDX-License-Identifier: Apache-2.0
"""A schedule stands where a number may: its present rate is compared and computed."""

import operator

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

COMPARISONS = [
    *(operator.lt, operator.le, operator.gt),
    *(operator.ge, operator.eq, operator.ne),
]
ARITHMETIC = [
    *(operator.add, operator.sub, operator.mul),
    *(operator.truediv, operator.pow),
]
SCHEDULES = {
    "Constant": lambda: bo.optim.Constant(0.25),
    "Variable": lambda: bo.optim.Constant(bo.Variable(0.25)),
    "StepLR": lambda: bo.optim.StepLR(0.5, 1, 0.5, last_epoch=0),
    "Function": lambda: bo.optim.SGD(lambda t: 0.25, bo.TrainVar(1.0)).lr,
}
each = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)


@each
@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("number", [0.1, 0.25, 1, np.float32(0.25)])
def test_a_schedule_compares_as_its_rate(make, compare, number):
    rate = make()
    assert bool(compare(rate, number)) == compare(0.25, number)
    assert bool(compare(number, rate)) == compare(number, 0.25)


@each
def test_numpy_compares_alike_on_both_sides(make):
    numbers = np.array([0.25, 0.5])  # float64, where the rate is float32
    np.testing.assert_array_equal(make() == numbers, [True, False])
    np.testing.assert_array_equal(numbers == make(), [True, False])
    assert make() != np.str_("0.25")


@pytest.mark.parametrize("kind", ["Constant", "Variable"])
def test_a_constant_rate_becomes_an_array(kind):
    rate = SCHEDULES[kind]()
    assert np.asarray(rate).dtype == np.float32 and np.asarray(rate) == 0.25
    assert jnp.asarray(rate) == 0.25 and round(rate, 1) == 0.2
    assert (np.ones(2) * rate).tolist() == [0.25, 0.25]
    assert (jnp.ones(2) * rate).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("compute", ARITHMETIC)
@pytest.mark.parametrize("kind", ["Constant", "Variable"])
def test_a_constant_rate_computes_as_a_number(compute, kind):
    rate = SCHEDULES[kind]()
    assert compute(rate, 2.0) == compute(0.25, 2.0)
    assert compute(2.0, rate) == np.float32(compute(2.0, 0.25))


@pytest.mark.parametrize("factor", [0.5, np.float32(0.5), jnp.float32(0.5)])
def test_a_product_ends_no_schedule(factor):
    opt = bo.optim.SGD(bo.optim.StepLR(0.5, 1), bo.TrainVar(1.0))
    with pytest.raises(TypeError):
        opt.lr *= factor
    assert isinstance(opt.lr, bo.optim.StepLR)


def test_a_compiled_function_compares_the_rate_of_the_call():
    opt = bo.optim.SGD(0.25, bo.TrainVar(1.0))
    is_small = bo.jit(lambda: jnp.where(opt.lr < 0.1, 1, 0))
    assert is_small() == 0
    opt.lr -= 0.2
    assert is_small() == 1 and is_small.compiles == 1


def test_schedules_are_equal_if_they_are_one():
    rate, other = bo.optim.Constant(0.25), bo.optim.Constant(0.25)
    assert rate == rate and rate != other and rate != "0.25" and rate != None  # noqa
    assert {rate: 1}[rate] == 1 and other not in {rate: 1}
