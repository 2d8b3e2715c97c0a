# SPDX-License-Identifier: Apache-2.0
"""Names that users of other packages type work, or the error says the right one."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim


def _sgd(lr=0.1, **settings):
    return optim.SGD(lr, {"w": bo.TrainVar([1.0])}, **settings)


ALIASES = {
    "learning_rate": lambda: float(optim.Adam(learning_rate=0.2).lr) == 0.2,
    "base_lr": lambda: np.isclose(optim.StepLR(base_lr=0.2, step_size=3).lr, 0.2),
    "base_lr of cycles": lambda: np.isclose(
        optim.CyclicLR(base_lr=0.2, max_lr=1).lr, 0.2
    ),
    "grad_clip_norm": lambda: _sgd(grad_clip_norm=2.0).clip_norm == 2,
    "grad_clip_value": lambda: _sgd(grad_clip_value=2.0).clip_value == 2,
    "ExponentialDecay": lambda: optim.ExponentialDecay is optim.ExponentialDecayLR,
    "InverseTimeDecay": lambda: optim.InverseTimeDecay is optim.InverseTimeDecayLR,
    "PolynomialDecay": lambda: optim.PolynomialDecay is optim.PolynomialDecayLR,
    "PiecewiseConstant": lambda: optim.PiecewiseConstant is optim.PiecewiseConstantLR,
    "ChainedScheduler": lambda: optim.ChainedScheduler is optim.ChainedLR,
    "Nadam": lambda: optim.Nadam is optim.NAdam,
    "cycle_momentum=False": lambda: np.isclose(
        optim.OneCycleLR(0.1, 10, cycle_momentum=False)(2), 0.1
    ),
    "get_last_lr": lambda: _sgd(0.1).get_last_lr() == [0.1],
    "float(opt.lr)": lambda: float(_sgd(0.1).lr) == 0.1,
    "float of a schedule": lambda: float(_sgd(optim.StepLR(0.1, 2)).lr) == 0.1,
    "f'{opt.lr:.4f}'": lambda: f"{_sgd(0.1).lr:.4f}" == "0.1000",
    "f'{opt.lr}'": lambda: f"{_sgd(0.1).lr}" == "Constant(0.1)",
    "opt.lr * 0.5": lambda: np.isclose(_sgd(0.1).lr * 0.5, 0.05),
    "0.5 * opt.lr": lambda: np.isclose(0.5 * _sgd(0.1).lr, 0.05),
    "opt.lr / 2": lambda: np.isclose(_sgd(0.1).lr / 2, 0.05),
}


@pytest.mark.parametrize("name", ALIASES)
def test_a_name_of_the_same_meaning_works(name):
    assert ALIASES[name]()


TOLD = {
    "ConstantLR": (lambda: optim.ConstantLR, r"Warmup\(lr, total_iters"),
    "PolynomialLR": (lambda: optim.PolynomialLR, r"PolynomialDecayLR\(lr, total"),
    "WarmupCosineSchedule": (
        lambda: optim.WarmupCosineSchedule,
        r"Warmup\(CosineAnnealingLR\(",
    ),
    "WarmupScheduler": (lambda: optim.WarmupScheduler, r"Warmup\(lr, warmup_steps\)"),
    "PiecewiseConstantSchedule": (
        lambda: optim.PiecewiseConstantSchedule,
        r"PiecewiseConstantLR\(boundaries",
    ),
    "GradScaler": (lambda: optim.GradScaler, "loss_scale='dynamic'"),
    "Lars": (lambda: optim.Lars, r"LARS\(lr, weight_decay=0\.0"),
    "RMSprop": (lambda: optim.RMSprop, "did you mean RMSProp"),
    # In torch a list of the rates of all groups. A schedule here knows none of them.
    "schedule.get_last_lr": (
        lambda: _sgd().lr.get_last_lr(),
        r"opt\.get_last_lr\(\) has the rates of the groups, schedule\(\)",
    ),
    "schedule.get_lr": (lambda: _sgd().lr.get_lr(), r"opt\.get_last_lr\(\)"),
    "schedule.step": (lambda: optim.StepLR(0.1, 2).step(), r"step_epoch\(\)"),
    "opt.learning_rate": (lambda: _sgd().learning_rate, "here it is lr"),
    "cycle_momentum": (
        lambda: optim.OneCycleLR(0.1, 10, cycle_momentum=True),
        "momentum takes a schedule",
    ),
    "base_momentum": (
        lambda: optim.CyclicLR(0.1, 1.0, base_momentum=0.8),
        "momentum takes a schedule",
    ),
    "epochs": (
        lambda: optim.OneCycleLR(0.1, epochs=2, steps_per_epoch=5),
        "total_steps is epochs times",
    ),
    "scale_fn": (lambda: optim.CyclicLR(0.1, 1.0, scale_fn=abs), r"LambdaLR\(lr"),
    "memory_size": (lambda: optim.LBFGS(memory_size=5), "here it is history_size"),
    "alpha": (lambda: optim.RMSProp(0.1, alpha=0.9), "here it is rho"),
    "trust_coefficient": (lambda: optim.LARS(trust_coefficient=1.0), "here it is tc"),
    "SWALR": (lambda: optim.SWALR, r"EMA\(net\)"),
    "opt.state": (lambda: _sgd().state, r"opt\.slots"),
    "opt.add_scheduler": (lambda: _sgd().add_scheduler(1), r"opt\.lr = schedule"),
    "schedule.set_value": (
        lambda: optim.StepLR(0.1, 2).set_value(1),
        r"schedule\.lr = x",
    ),
    "init_lr": (lambda: optim.Adam(init_lr=0.1), "here it is lr"),
    "centralize": (lambda: optim.Lion(0.1, centralize=True), r"centralize\(grads\)"),
    "both": (lambda: optim.Adam(lr=0.1, learning_rate=0.1), "are one argument"),
    "a schedule of an optimizer": (
        lambda: optim.CosineAnnealingLR(_sgd(), 10),
        r"given to the optimizer: bo\.optim\.SGD",
    ),
    "a schedule of a schedule": (
        lambda: optim.CosineAnnealingLR(optim.StepLR(0.1, 2), 10),
        "not the StepLR",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_an_error_names_the_right_name(name):
    call, says = TOLD[name]

    with pytest.raises(
        (AttributeError, TypeError, bo.errors.HyperparameterError), match=says
    ):
        call()


def test_a_rate_is_set_by_the_name_of_braintools_too():
    opt = _sgd(0.1)

    opt.current_lr = 0.2
    opt.lr *= 0.5

    assert float(opt.lr) == pytest.approx(0.1)
    with pytest.raises(TypeError):
        _sgd(optim.StepLR(0.1, 2)).lr *= 0.5  # it would end the schedule


@pytest.mark.parametrize("given", ["params", "groups"])
def test_the_last_rates_are_those_of_the_groups_that_torch_has(given):
    """As torch: after a step of the schedule, each group at half of its own rate."""
    a, b = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    schedule = optim.StepLR(0.1, 1, 0.5)
    if given == "params":
        groups = [{"params": {"a": a}, "lr": 0.4}, {"params": {"b": b}}]
        opt, expected = optim.SGD(schedule, groups), [0.2, 0.05]
    else:
        rules = [{"match": "a", "lr": 0.4}]
        opt = optim.SGD(schedule, {"a": a, "b": b}, groups=rules)
        expected = [0.05, 0.2]

    schedule.step_epoch()

    assert opt.get_last_lr() == pytest.approx(expected)
    assert optim.Lookahead(opt).get_last_lr() == opt.get_last_lr()
    assert [group["lr"] for group in opt.param_groups] == opt.get_last_lr()
    assert type(opt.get_last_lr()[0]) is float


def test_three_numbers_by_position_may_be_meant_for_torch():
    with pytest.warns(bo.errors.TrainingWarning, match=r"T_0=2.*torch") as seen:
        optim.CosineAnnealingWarmRestarts(0.1, 10, 2)

    assert seen[0].filename == __file__
    optim.CosineAnnealingWarmRestarts(0.1, num_call_per_epoch=10, T_0=2)


# --- mistakes that are told once


def test_an_epoch_schedule_that_nobody_advances_is_told_once():
    opt = _sgd(optim.StepLR(0.1, 30))
    opt.step.value = jnp.asarray(999, jnp.int32)
    opt.summary()
    opt.update({"w": jnp.zeros(1)})

    with pytest.warns(
        bo.errors.TrainingWarning, match=r"StepLR of this SGD.*1,000 updates.*0\.1"
    ) as seen:
        opt.summary()
    opt.summary()

    assert seen[0].filename == __file__


def test_an_epoch_schedule_that_is_advanced_is_not_told():
    opt = _sgd(optim.StepLR(0.1, 30))
    opt.step.value = jnp.asarray(5000, jnp.int32)

    opt.lr.step_epoch()
    opt.summary()
    stepped = _sgd(optim.StepLR(0.1, 30, clock="step"))
    stepped.step.value = jnp.asarray(5000, jnp.int32)
    stepped.summary()


def _update_often(opt, tmp_path):
    for _ in range(16):
        opt.update({"w": jnp.zeros(1)})


def _save(opt, tmp_path):
    bo.checkpoint.save(tmp_path / "n.bopt", {"opt": opt})


def _train(opt, compiled):
    # Nobody reads anything of the optimizer, and the one call is the only one.
    def update(x):
        opt.update({"w": jnp.full(1, x)})

    compiled(lambda xs: bo.for_loop(update, xs))(jnp.zeros(3))


def _train_in_jit(opt, tmp_path):
    _train(opt, bo.jit)


def _train_in_jit_without_donation(opt, tmp_path):
    _train(opt, bo.jit(donate=False))


def _train_in_nested_jits(opt, tmp_path):
    _train(opt, lambda f: bo.jit(bo.jit(f)))


def _train_in_a_loop(opt, tmp_path):
    _train(opt, lambda f: f)


LOOKS = [
    _update_often,
    _save,
    _train_in_jit,
    _train_in_jit_without_donation,
    _train_in_nested_jits,
    _train_in_a_loop,
]


@pytest.mark.parametrize("look", LOOKS)
def test_weights_that_are_not_finite_are_told_by_path(look, tmp_path):
    opt = _sgd()
    opt.update({"w": jnp.array([jnp.nan])})

    with pytest.warns(
        bo.errors.TrainingWarning, match=r"(?s)not finite.*w: 1 of 1.*find_nan"
    ) as seen:
        look(opt, tmp_path)
    opt.summary()

    assert len(seen) == 1 and seen[0].filename == __file__


def test_weights_that_turn_bad_later_are_told_between_the_runs_of_a_step():
    opt = _sgd()
    step = bo.jit(lambda x: opt.update({"w": jnp.full(1, x)}))
    for _ in range(15):
        step(0.0)

    with pytest.warns(bo.errors.TrainingWarning, match="w: 1 of 1"):
        step(jnp.inf)


# --- counts beyond 2²⁴

FAR = 2**24


COUNTED = {
    "StepLR": lambda: (optim.StepLR(1.0, 3, 0.999999, clock="step"), 3),
    "CyclicLR": lambda: (optim.CyclicLR(0.0, 1.0, step_size_up=2), 4),
    "CosineAnnealingWarmRestarts": lambda: (
        optim.CosineAnnealingWarmRestarts(1.0, num_call_per_epoch=1, T_0=5),
        5,
    ),
    "staircase": lambda: (
        optim.ExponentialDecayLR(1.0, 3, 0.999999, staircase=True),
        3,
    ),
    "Warmup": lambda: (optim.Warmup(optim.CyclicLR(0.0, 1.0, step_size_up=2), 4), 4),
    "SequentialLR": lambda: (
        optim.SequentialLR([1.0, optim.CyclicLR(0.0, 1.0, step_size_up=2)], [4]),
        4,
    ),
    "ChainedLR": lambda: (optim.ChainedLR([optim.CyclicLR(0.5, 1.0, 2), 1.0]), 4),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_a_rate_is_exact_beyond_the_whole_numbers_of_float32(kind):
    schedule, period = COUNTED[kind]()
    first = FAR - FAR % period
    counts = [first + i for i in range(2 * period)]

    rates = [float(schedule.at(jnp.asarray(t, jnp.int32))) for t in counts]

    # A period later all is the same, but for the steps of a staircase.
    by = 0.999999 if kind in ("StepLR", "staircase") else 1.0
    near = [float(schedule.at(jnp.asarray(8 * period + i))) for i in range(period)]
    if by == 1:
        np.testing.assert_allclose(rates, near * 2, rtol=1e-6)
    else:
        assert len(set(rates[:period])) == len(set(rates[period:])) == 1
        assert rates[period] == pytest.approx(rates[0] * by, rel=1e-6)


def test_counters_stop_at_the_last_count():
    last = 2**31 - 1
    schedule = optim.StepLR(0.1, 2)
    opt = optim.Lookahead(_sgd(schedule, accumulate=2, nonfinite="skip"))
    for variable in opt.vars().values():
        if variable.value.dtype == jnp.int32:
            variable.value = jnp.asarray(last, jnp.int32)

    for g in (jnp.nan, 1.0):
        opt.update({"w": jnp.full(1, g)})
    schedule.step_epoch()
    schedule.step_call()

    counts = [v.value for v in opt.vars().values() if v.value.dtype == jnp.int32]
    assert min(map(int, counts)) >= 0
    assert int(schedule.last_epoch.value) == int(schedule.last_call.value) == last
    assert np.isfinite(schedule.at(last))
