# SPDX-License-Identifier: Apache-2.0
"""Rates of every kind, and schedules in the place of any number."""

import copy
import gc
import weakref

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo

optim = bo.optim


RATES = {
    "int": 1,
    "float": 0.5,
    "numpy scalar": np.float32(0.5),
    "numpy array": np.asarray(0.5),
    "jax array": jnp.asarray(0.5),
    "Variable": bo.Variable(jnp.asarray(0.5)),
    "schedule": optim.Constant(0.5),
    "callable": lambda step: 0.5,
    "optax schedule": optax.constant_schedule(0.5),
}


@pytest.mark.parametrize("kind", RATES)
def test_a_rate_may_be_anything_that_gives_a_number(kind):
    w = bo.TrainVar(jnp.ones(2))
    opt = optim.SGD(RATES[kind], w)

    bo.jit(opt.update)(jnp.full(2, 0.1))

    rate = 1.0 if kind == "int" else 0.5
    np.testing.assert_allclose(w.value, 1 - 0.1 * rate, rtol=1e-6)
    assert float(opt.current_lr) == pytest.approx(rate)


def test_a_variable_rate_is_read_and_never_written():
    rate, w = bo.Variable(jnp.asarray(0.5)), bo.TrainVar(jnp.ones(2))
    opt = optim.SGD(rate, w)
    step = bo.jit(opt.update)
    held = rate.value

    step(jnp.ones(2))
    opt.update(jnp.ones(2))
    assert rate.value is held
    rate.value = 0.25
    step(jnp.ones(2))

    np.testing.assert_allclose(w.value, 1 - 0.5 - 0.5 - 0.25)


def test_a_rate_may_be_replaced_by_another_kind():
    w = bo.TrainVar(jnp.ones(2))
    opt = optim.SGD(0.5, w)
    step = bo.jit(opt.update)
    step(jnp.ones(2))

    for rate in (0.25, lambda t: 0.125 * t, bo.Variable(1.0), optim.Constant(2.0), 0.5):
        opt.lr = rate
        step(jnp.ones(2))

    np.testing.assert_allclose(w.value, 1 - 0.5 - 0.25 - 0.125 * 2 - 1.0 - 2.0 - 0.5)


def test_an_optax_schedule_counts_from_zero():
    w = bo.TrainVar(jnp.zeros(1))
    opt = optim.SGD(optax.linear_schedule(1.0, 0.0, 4), w)

    for _ in range(3):
        opt.update(jnp.ones(1))

    np.testing.assert_allclose(w.value, -(1.0 + 0.75 + 0.5))


def test_any_number_may_be_a_schedule():
    a, b = bo.TrainVar(jnp.ones(2)), bo.TrainVar(jnp.ones(2))
    opt = optim.AdamW(0.1, a, beta1=lambda t: 0.9 - 0.5 * (t > 0))
    by_hand = optim.AdamW(0.1, b)

    for step in range(2):
        by_hand.beta1 = 0.9 - 0.5 * (step > 0)
        opt.update(jnp.ones(2))
        by_hand.update(jnp.ones(2))

    np.testing.assert_allclose(a.value, b.value, rtol=1e-6)


def test_a_number_may_become_a_schedule_and_a_number_again():
    w = bo.TrainVar(jnp.ones(1))
    opt = optim.SGD(1.0, w)
    step = bo.jit(opt.update)
    step(jnp.zeros(1))

    opt.weight_decay = lambda t: 0.5
    step(jnp.zeros(1))
    assert float(w[0]) == 0.5
    opt.weight_decay = 0.0
    step(jnp.zeros(1))

    assert float(w[0]) == 0.5


@pytest.mark.parametrize("kind", ["lr", "number", "schedule", "constraint"])
def test_what_a_callable_reads_is_read_at_each_eager_step(kind):
    gain, w = bo.Variable(jnp.array(1.0)), bo.TrainVar(jnp.ones(1))
    opt = {
        "lr": lambda: optim.SGD(lambda step: gain.value, w),
        "number": lambda: optim.SGD(1.0, w, weight_decay=lambda step: gain.value),
        "schedule": lambda: optim.SGD(optim.LambdaLR(1.0, lambda t: gain.value), w),
        "constraint": lambda: optim.SGD(
            1.0, w, groups=[{"match": "*", "constraint": lambda p: p - gain.value}]
        ),
    }[kind]()
    opt.update(jnp.ones(1))
    gain.value = jnp.array(8.0)
    before = float(w[0])

    opt.update(jnp.ones(1))

    steps = {"number": 1 + 8.0 * before, "constraint": 1 + 8.0}
    assert before - float(w[0]) == steps.get(kind, 8.0)
    copy.deepcopy(opt).update(jnp.ones(1))
    assert not [path for path in opt.state_dict() if "?" in path]


@pytest.mark.parametrize("through", [lambda f: f, bo.jit])
def test_a_constraint_that_writes_is_refused(through):
    rng, w = bo.RandomState(0), bo.TrainVar(jnp.ones(1))
    noisy = {"match": "*", "constraint": lambda p: p + rng.normal(p.shape)}
    opt = optim.SGD(0.1, w, groups=[noisy])

    for _ in range(2):
        with pytest.raises(bo.errors.TraceContextError, match="it can only read"):
            through(opt.update)(jnp.ones(1))

    assert w[0] == 1.0 and int(opt.step) == 0


@pytest.mark.more
def test_what_a_closure_reads_is_not_kept():
    w = bo.TrainVar(jnp.ones(2))
    opt = optim.LBFGS(train_vars=w)
    for seed in range(3):
        batch = bo.Variable(jnp.full(2, float(seed)))
        opt.step(lambda batch=batch: ((w - batch) ** 2).sum())
    kept = weakref.ref(batch)

    del batch
    gc.collect()

    assert kept() is None


def test_a_function_replaced_in_a_schedule_is_used_by_the_next_step():
    w = bo.TrainVar(jnp.zeros(1))
    opt = optim.SGD(optim.SequentialLR([lambda t: 1.0, lambda t: 0.0], [100]), w)
    step = bo.jit(opt.update)
    step(jnp.ones(1))

    opt.lr.schedules[0].function = lambda t: 10.0
    step(jnp.ones(1))

    assert w[0] == -11.0
