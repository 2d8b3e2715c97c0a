# SPDX-License-Identifier: Apache-2.0
"""Schedules: pure functions of a saved count, with their numbers as runtime inputs."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo

optim = bo.optim

SCHEDULES = [
    optim.StepLR(0.1, 4),
    optim.MultiStepLR(0.1, [3, 7]),
    optim.ExponentialLR(0.1, 0.9),
    optim.ExponentialDecayLR(0.1, 5, 0.9),
    optim.InverseTimeDecayLR(0.1, 5, 0.9),
    optim.PolynomialDecayLR(0.1, 10, 0.01),
    optim.PiecewiseConstantLR([3, 7], [0.1, 0.05, 0.01]),
    optim.CosineAnnealingLR(0.1, 24),
    optim.CosineAnnealingWarmRestarts(0.1, 2, 3, 2),
    optim.OneCycleLR(0.1, 26),
    optim.CyclicLR(0.01, 0.1, 4),
    optim.LinearLR(0.1),
    optim.LambdaLR(0.1, lambda t: 1 / (1 + t)),
    optim.MultiplicativeLR(0.1, lambda t: 0.9, 30),
    optim.Warmup(optim.ExponentialLR(0.1, 0.9), 5),
    optim.NoamLR(64, 10),
    optim.WarmupStableDecay(0.1, 5, 5, 5),
    optim.SequentialLR([optim.Constant(0.1), optim.ExponentialLR(0.1, 0.9)], [6]),
    optim.ChainedLR([optim.LinearLR(0.1), optim.ExponentialLR(0.1, 0.9)]),
    optim.ReduceLROnPlateau(0.1),
]
each = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


@each
def test_drives_an_optimizer_by_its_clock_without_compiling(schedule, counted):
    w = bo.TrainVar(jnp.zeros(1))
    opt = optim.SGD(schedule, w)
    body = counted(opt.update)
    step, expected = bo.jit(body), 0.0
    step(jnp.ones(1))
    traces = body.traces
    opt.load_state_dict(optim.SGD(schedule, bo.TrainVar(jnp.zeros(1))).state_dict())
    w.value = jnp.zeros(1)

    for t in range(6):
        expected -= float(schedule(t))
        step(jnp.ones(1))
        if schedule.clock == "epoch":
            schedule.step_epoch()

    assert body.traces == traces
    np.testing.assert_allclose(w.value, expected, rtol=1e-5)
    schedule.last_epoch.value = -1


@each
def test_changes_its_numbers_without_compiling(schedule, counted):
    w = bo.TrainVar(jnp.zeros(1))
    opt = optim.SGD(schedule, w)
    body = counted(opt.update)
    step = bo.jit(body)
    step(jnp.ones(1))
    traces, kept = body.traces, schedule.numbers.value

    for name in schedule.numbers.names:
        setattr(schedule, name, float(getattr(schedule, name)) * 0.99 or 0.5)
        step(jnp.ones(1))
    schedule.numbers.value = kept

    assert body.traces == traces


@each
def test_says_what_it_is(schedule):
    assert type(schedule).__name__ in repr(schedule)
    assert float(schedule(0)) >= 0


@each
def test_is_saved_and_resumed(schedule):
    opt = optim.SGD(schedule, bo.TrainVar(jnp.zeros(1)))
    for _ in range(3):
        opt.update(jnp.ones(1))
        opt.lr.step_epoch()
    saved, rate = opt.state_dict(), float(opt.current_lr)

    schedule.last_epoch.value = -1
    other = optim.SGD(schedule, bo.TrainVar(jnp.zeros(1)))
    other.load_state_dict(saved)

    assert float(other.current_lr) == rate == float(other.lr())
    schedule.last_epoch.value = -1


def test_call_counted_schedules_step_by_hand_too():
    schedule = optim.ExponentialDecayLR(0.1, 1, 0.5)

    found = []
    for _ in range(3):
        found.append(float(schedule()))
        schedule.step_call()

    np.testing.assert_allclose(found, [0.1, 0.05, 0.025], rtol=1e-6)


@pytest.mark.parametrize("clock", ["step", "epoch"])
def test_the_clock_may_be_chosen(clock):
    opt = optim.SGD(optim.StepLR(0.1, 2, 0.5, clock=clock), bo.TrainVar(jnp.zeros(1)))

    for _ in range(2):
        opt.update(jnp.ones(1))

    assert float(opt.current_lr) == pytest.approx(0.05 if clock == "step" else 0.1)


def test_a_run_may_start_in_the_middle():
    schedule = optim.StepLR(0.1, 2, 0.5, last_epoch=3)

    assert float(schedule()) == pytest.approx(0.025)


OPTAX = [
    (optim.CosineAnnealingLR(0.1, 20, 0.01), optax.cosine_decay_schedule(0.1, 20, 0.1)),
    (
        optim.Warmup(optim.CosineAnnealingLR(0.1, 15), 5),
        optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 20),
    ),
    (
        optim.ExponentialDecayLR(0.1, 5, 0.9, staircase=True),
        optax.exponential_decay(0.1, 5, 0.9, staircase=True),
    ),
    (
        optim.PolynomialDecayLR(0.1, 10, 0.01, 2.0),
        optax.polynomial_schedule(0.1, 0.01, 2, 10),
    ),
    (optim.LinearLR(0.1, 0.2, 1.0, 7), optax.linear_schedule(0.02, 0.1, 7)),
    (
        optim.PiecewiseConstantLR([4, 8], [1.0, 0.5, 0.05]),
        optax.piecewise_constant_schedule(1.0, {4: 0.5, 8: 0.1}),
    ),
]


@pytest.mark.parametrize("pair", OPTAX, ids=lambda p: type(p[0]).__name__)
def test_equals_optax(pair):
    ours, theirs = pair

    found = [[float(f(t)) for t in range(25)] for f in (ours, theirs)]

    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_noam_is_the_formula_of_the_paper():
    schedule = optim.NoamLR(512, 4000)

    found = [float(schedule(t)) for t in (0, 3999, 15999)]

    expected = [512**-0.5 * min(n**-0.5, n * 4000**-1.5) for n in (1, 4000, 16000)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - 0.5**0.5)]
)
def test_warmup_stable_decay(shape, half):
    schedule = optim.WarmupStableDecay(1.0, 10, 20, 10, shape=shape)

    found = [float(schedule(t)) for t in (0, 5, 10, 29, 35, 40, 99)]

    np.testing.assert_allclose(found, [0, 0.5, 1, 1, half, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("mode", "half"), [("cosine", 0.5), ("constant", 0.1)])
def test_warmup_modes(mode, half):
    schedule = optim.Warmup(1.0, 10, 0.0 if mode == "cosine" else 0.1, mode)

    assert float(schedule(5)) == pytest.approx(half, rel=1e-5)
    assert float(schedule(10)) == 1.0


@pytest.mark.parametrize("three_phase", [False, True])
def test_a_cycle_that_rises_in_one_update_starts_at_its_peak(three_phase):
    schedule = optim.OneCycleLR(0.1, 10, pct_start=0.1, three_phase=three_phase)

    found = [float(schedule(t)) for t in range(11)]

    assert found[0] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True) and found[-1] > 0


def test_plateau_takes_the_highest_too():
    schedule = optim.ReduceLROnPlateau(
        1.0, "max", factor=0.5, patience=0, threshold=0.1, threshold_mode="abs"
    )

    for score in (0.5, 0.55, 0.9, jnp.nan):
        schedule.step_metric(score)

    assert float(schedule.current) == 0.25


BAD = [
    lambda: optim.StepLR(-0.1, 1),
    lambda: optim.StepLR(0.1, 0),
    lambda: optim.StepLR(0.1, 1, 0.0),
    lambda: optim.MultiStepLR(0.1, [3, 2]),
    lambda: optim.CosineAnnealingLR(0.1, 0),
    lambda: optim.CosineAnnealingLR(float("nan"), 5),
    lambda: optim.CosineAnnealingLR(0.1, 5, clock="day"),
    lambda: optim.OneCycleLR(0.1, 10, 1.0),
    lambda: optim.OneCycleLR(0.1, 10, anneal_strategy="log"),
    lambda: optim.CyclicLR(0.1, 1.0, mode="square"),
    lambda: optim.PiecewiseConstantLR([1], [0.1]),
    lambda: optim.SequentialLR([0.1, 0.2], [1, 2]),
    lambda: optim.ChainedLR([]),
    lambda: optim.Warmup(0.1, 5, 2.0),
    lambda: optim.ReduceLROnPlateau(0.1, factor=1.0),
    lambda: optim.ReduceLROnPlateau(0.1, "median"),
]


@pytest.mark.parametrize("make", BAD)
def test_bad_schedules_are_refused(make):
    with pytest.raises(bo.errors.HyperparameterError):
        make()


def test_a_choice_of_a_schedule_may_change_and_is_checked():
    schedule = optim.Warmup(1.0, 4, mode="linear")
    step = bo.jit(lambda: schedule(2))
    first = float(step())

    schedule.mode = "constant"
    second = float(step())
    with pytest.raises(bo.errors.HyperparameterError, match="'quadratic' is none of"):
        schedule.mode = "quadratic"

    assert (first, second, schedule.mode) == (0.5, 0.0, "constant")


@pytest.mark.parametrize("milestones", [5, [1, None], [2, 1]])
def test_milestones_are_increasing_numbers(milestones):
    with pytest.raises(bo.errors.HyperparameterError, match="milestones"):
        optim.MultiStepLR(0.1, milestones)


def test_a_schedule_shows_the_schedules_inside():
    falling = optim.StepLR(0.5, 3, 0.25)
    shown = "StepLR(lr=0.5, step_size=3, gamma=0.25)"

    assert repr(optim.Warmup(falling, 10)) == (
        f"Warmup({shown}, warmup_steps=10, start_factor=0)"
    )
    assert repr(optim.SequentialLR([0.5, falling], [6])) == (
        f"SequentialLR([Constant(0.5), {shown}])"
    )
