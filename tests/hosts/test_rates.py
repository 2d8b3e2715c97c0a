# SPDX-License-Identifier: Apache-2.0
"""Learning rates that another framework holds or counts."""

import jax.numpy as jnp
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts("brainpy", "braintools")


def held(framework):
    """Return a rate of 0.5 in a Variable of the framework."""
    import brainpy.math as bm
    import brainstate

    kind = {"brainpy": bm.Variable, "brainstate": brainstate.ShortTermState}[framework]
    return kind(jnp.asarray(0.5))


def jit_of(framework):
    import brainpy.math as bm

    return {"brainpy": bm.jit, "brainopt": bo.jit}[framework]


@pytest.mark.parametrize("framework", ["brainpy", "brainstate"])
@pytest.mark.parametrize("jit", ["brainpy", "brainopt"])
@pytest.mark.parametrize("how", ["made", "set"])
def test_a_rate_in_a_variable_of_theirs_is_read_at_each_step(framework, jit, how):
    rate, w = held(framework), bo.TrainVar(jnp.array([3.0]))
    opt = bo.optim.SGD(rate if how == "made" else 0.1, w)
    opt.lr = rate
    step = jit_of(jit)(lambda: opt.update({"param": jnp.ones(1)}))
    step()
    rate.value = jnp.asarray(2.0)
    step()
    assert w.value.tolist() == [0.5]  # 3 - 0.5 - 2


def test_a_rate_in_a_variable_of_theirs_is_set_where_it_lies():
    rate = held("brainpy")
    opt = bo.optim.SGD(rate, bo.TrainVar(jnp.ones(1)))
    opt.lr = 0.25
    assert float(rate.value) == 0.25


@pytest.mark.parametrize("framework", ["brainpy", "braintools"])
def test_a_schedule_of_theirs_is_refused_since_nobody_would_count(framework):
    import brainpy as bp
    import braintools

    make = {
        "brainpy": lambda: bp.optim.StepLR(0.1, 2),
        "braintools": lambda: braintools.optim.StepLR(base_lr=0.1, step_size=2),
    }[framework]
    w = bo.TrainVar(jnp.ones(1))
    with pytest.raises(bo.errors.HyperparameterError, match=r"bo\.optim"):
        bo.optim.SGD(make(), w)
    opt = bo.optim.SGD(0.1, w)
    with pytest.raises(bo.errors.HyperparameterError, match=framework):
        opt.lr = make()
    assert float(opt.current_lr) == pytest.approx(0.1)


def theirs_and_ours(name):
    """Return a schedule of brainpy and what the migration page gives for it."""
    import brainpy as bp

    theirs, ours = bp.optim, bo.optim

    def swing(t):
        return (1 + jnp.cos(jnp.pi * t / 4)) / 2

    return {
        "cosine": (
            theirs.CosineAnnealingLR(0.1, 4),
            ours.LambdaLR(0.1, swing, clock="epoch"),
        ),
        "milestones": (
            theirs.MultiStepLR(0.1, [3, 5]),
            ours.MultiStepLR(0.1, [4, 6]),
        ),
        "pieces": (
            theirs.PiecewiseConstantLR([3, 5], [0.1, 0.2, 0.3]),
            ours.PiecewiseConstantLR([4, 6], [0.1, 0.2, 0.3]),
        ),
    }[name]


@pytest.mark.parametrize("name", ["cosine", "milestones", "pieces"])
def test_the_migration_page_names_the_rates_of_brainpy(name):
    import brainpy as bp

    if name == "milestones" and bp.__version__ < "2.8":
        pytest.skip("this MultiStepLR is back at its first rate after the last one")
    theirs, ours = theirs_and_ours(name)
    for _ in range(12):
        assert float(ours()) == pytest.approx(float(theirs()), rel=1e-6, abs=1e-9)
        for schedule in theirs, ours:
            schedule.step_epoch()
            schedule.step_call()
