# SPDX-License-Identifier: Apache-2.0
"""Inside swapped() no step is taken and no state saved that would be wrong."""

import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt import checkpoint

optim = bo.optim
GRADS = {"w": jnp.ones(2)}


def _net():
    net = bo.Node()
    net.w = bo.TrainVar(jnp.ones(2))
    return net


def _averaged(kind):
    """Return a model, its optimizer, and what has its averages, after some steps."""
    net = _net()
    if kind == "EMA":
        opt, average = optim.AdamW(0.1, net), optim.EMA(net)
    else:
        make = {
            "Lookahead": lambda: optim.Lookahead(optim.SGD(0.1, net)),
            "ScheduleFree": lambda: optim.ScheduleFreeAdamW(0.1, net),
        }
        opt = average = make[kind]()
    for _ in range(3):
        opt.update(GRADS)
        if kind == "EMA":
            average.update()
    return net, opt, average


KINDS = ["EMA", "Lookahead", "ScheduleFree"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_is_taken(kind):
    net, opt, average = _averaged(kind)
    step = bo.jit(lambda: opt.update(GRADS))
    step()
    held = float(net.w.value[0])

    with average.swapped():
        for act in (step, lambda: opt.update(GRADS)):
            with pytest.raises(bo.errors.GradientError, match=r"swapped\(\)"):
                act()
    assert float(net.w.value[0]) == held
    with bo.assert_compiles_at_most(0):
        step()


@pytest.mark.parametrize("kind", KINDS)
def test_no_state_is_saved_but_that_of_the_model(kind, tmp_path):
    net, opt, average = _averaged(kind)
    trainer = bo.Node()
    trainer.opt, trainer.average = opt, average
    ways = [
        opt.state_dict,
        average.state_dict,
        trainer.state_dict,
        lambda: checkpoint.save(tmp_path / "a.bopt", {"net": net, "opt": opt}),
        lambda: average.save_states(tmp_path / "a.npz"),
    ]

    held = float(average.averages()["w"][0])
    with average.swapped():
        for way in ways:
            with pytest.raises(ValueError, match=r"swapped\(\)"):
                way()
        assert float(net.state_dict()["w"][0]) == held
        checkpoint.save(tmp_path / "net.bopt", net)
    assert not (tmp_path / "a.bopt").exists()
    assert opt.state_dict() and trainer.state_dict()


# What trains the variables of a net, and a step of it with its own way to step.
TRAINERS = {
    "update": (lambda net: optim.AdamW(0.1, net), lambda opt, net: opt.update(GRADS)),
    "flush": (
        lambda net: optim.SGD(0.1, net, accumulate=2),
        lambda opt, net: opt.flush(),
    ),
    "closure": (
        lambda net: optim.Adam(0.1, net),
        lambda opt, net: opt.step(lambda: net.w.value.sum()),
    ),
    "LBFGS": (
        lambda net: optim.LBFGS(train_vars=net),
        lambda opt, net: opt.step(lambda: net.w.value.sum()),
    ),
    "SAM": (
        lambda net: optim.SAM(optim.SGD(0.1, net)),
        lambda opt, net: opt.step(lambda: net.w.value.sum()),
    ),
    "RLS": (optim.RLS, lambda opt, net: opt.update(jnp.ones(2), jnp.ones(()))),
    "EMA": (optim.EMA, lambda opt, net: opt.update()),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_whatever_trains_the_variables_neither_steps_nor_saves_nor_loads(name):
    net = _net()
    make, step = TRAINERS[name]
    trainer, average = make(net), optim.EMA(net)
    step(trainer, net)
    average.update()
    state, held = trainer.state_dict(), net.w.value
    ways = [lambda: step(trainer, net), trainer.state_dict]
    ways.append(lambda: trainer.load_state_dict(state))
    if isinstance(trainer, optim.Optimizer):
        ways += [trainer.snapshot, trainer.trial]
        snapshot = trainer.snapshot()
        ways.append(lambda: trainer.restore(snapshot))

    with average.swapped():
        for way in ways:
            with pytest.raises(bo.errors.BrainoptError, match=r"swapped\(\)|averages"):
                way()

    assert net.w.value.tolist() == held.tolist()
    trainer.load_state_dict(state)
    step(trainer, net)


def test_a_write_that_is_lost_at_the_end_is_told():
    net, _, average = _averaged("EMA")
    held = float(net.w.value[0])
    state = net.state_dict()

    with pytest.warns(
        bo.errors.TrainingWarning, match=r"gone at its end:\n  w"
    ) as seen:
        with average.swapped():
            net.load_state_dict(state)

    assert (float(net.w.value[0]), len(seen)) == (held, 1)
    with average.swapped():
        net.to(net.w.value.device)


def test_numbers_changed_in_mid_run_leave_the_average():
    _, opt, _ = _averaged("ScheduleFree")
    before = float(opt.averages()["w"][0])

    opt.beta1 = 0.5

    assert float(opt.averages()["w"][0]) == before


def test_an_average_of_a_changed_beta1_goes_on():
    """Against the recurrence in Python floats, with β1 from 0.9 to 0.5."""
    w = bo.TrainVar(jnp.ones(1))
    opt = optim.ScheduleFreeAdamW(0.1, w, eps=0.0)
    x = y = z = 1.0
    for t in range(1, 7):
        opt.beta1 = beta1 = 0.9 if t < 4 else 0.5
        opt.update(jnp.ones(1))
        z -= 0.1  # g over the root of its own square
        x = (1 - 1 / t) * x + z / t
        y = (1 - beta1) * z + beta1 * x

    assert float(w.value[0]) == pytest.approx(y, abs=1e-6)
    assert float(opt.averages()["param"][0]) == pytest.approx(x, abs=1e-6)
