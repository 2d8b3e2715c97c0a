# SPDX-License-Identifier: Apache-2.0
"""Optimizers made like those of other frameworks take their steps."""

import sys
import types
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.optim.porting import _swaps

pytestmark = pytest.mark.hosts("brainpy", "braintools", "optax")
_draw = np.random.default_rng(0)
START = _draw.normal(size=(4, 3)).astype("f")
GRADS = [0.1 * _draw.normal(size=(4, 3)).astype("f") for _ in range(5)]


def _brainpy(name, **settings):
    import brainpy as bp
    import brainpy.math as bm

    weights = bm.TrainVar(bm.asarray(START))
    settings = {"lr": 0.01, **settings}
    return getattr(bp.optim, name)(train_vars={"x": weights}, **settings), weights


def _braintools(name, **settings):
    import brainstate
    import braintools

    weights = brainstate.ParamState(jnp.asarray(START))
    opt = getattr(braintools.optim, name)(**{"lr": 0.01, **settings})
    opt.register_trainable_weights({"x": weights})
    return opt, weights


def _steps(opt, weights):
    for g in GRADS:
        opt.update({"x": jnp.asarray(g)})
    return np.asarray(weights.value)


CASES = [
    *((_brainpy, name, {}) for name in "Adam AdamW SGD Momentum".split()),
    *((_brainpy, name, {}) for name in "MomentumNesterov Adagrad Adadelta".split()),
    *((_brainpy, name, {}) for name in "RMSProp LARS Adan".split()),
    (_brainpy, "Adam", {"weight_decay": 0.1, "eps": 0.1}),
    (_brainpy, "AdamW", {"amsgrad": True}),
    (_brainpy, "SGD", {"weight_decay": 0.1}),
    *((_braintools, name, {}) for name in "Adam AdamW SGD Momentum".split()),
    *((_braintools, name, {}) for name in "MomentumNesterov RMSprop Lion".split()),
    *((_braintools, name, {}) for name in "Lamb Lars Nadam Adagrad".split()),
    *((_braintools, name, {}) for name in "Adadelta Adamax RAdam".split()),
    *((_braintools, name, {}) for name in "AdaBelief Yogi SM3".split()),
    (_braintools, "Adam", {"weight_decay": 0.1, "grad_clip_norm": 0.05}),
    (_braintools, "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("make", "name", "settings"), CASES)
def test_five_steps_are_equal(make, name, settings):
    theirs, weights = make(name, **settings)
    expected = _steps(theirs, weights)
    theirs, weights = make(name, **settings)

    ours = bo.optim.like(theirs)

    np.testing.assert_allclose(_steps(ours, weights), expected, atol=1e-6)


def test_a_schedule_of_brainpy_goes_on():
    import brainpy as bp

    theirs, _ = _brainpy("SGD", lr=bp.optim.StepLR(0.1, 2, 0.5))
    for _ in range(3):
        theirs.lr.step_epoch()

    ours = bo.optim.like(theirs)

    np.testing.assert_allclose(ours.current_lr, theirs.lr(), rtol=1e-6)
    assert type(ours.lr) is bo.optim.StepLR


def test_what_cannot_be_known_is_named():
    import brainpy as bp
    import braintools

    bad = {
        r"weight_decay=0\.1": _brainpy("Momentum", weight_decay=0.1)[0],
        "schedule MultiStepLR": _brainpy("SGD", lr=bp.optim.MultiStepLR(0.1, [2]))[0],
        "schedule StepLR": braintools.optim.SGD(braintools.optim.StepLR(0.1, 2)),
        "class Adafactor": _braintools("Adafactor", lr=0.1)[0],
    }

    for says, optimizer in bad.items():
        with pytest.raises(bo.errors.HyperparameterError, match=says):
            bo.optim.like(optimizer)


def test_a_transformation_of_optax_is_kept():
    import optax

    tx = optax.adam(0.01)
    w = bo.TrainVar(jnp.asarray(START))

    assert bo.optim.like(tx, w).tx is tx
    assert bo.optim.like(types.SimpleNamespace(tx=tx)).tx is tx


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_an_optimizer_of_torch_is_read(kind):
    settings = {"momentum": 0.9, "dampening": 0.0, "nesterov": False}
    if kind != "SGD":
        settings = {"betas": (0.8, 0.9), "eps": 1e-6, "amsgrad": True}
    settings |= {"lr": 0.5, "weight_decay": 0.1, "maximize": False}
    theirs = type(kind, (), {"__module__": "torch.optim"})()
    theirs.defaults, theirs.param_groups = settings, [settings]

    ours = bo.optim.like(theirs, bo.TrainVar([1.0]))

    assert type(ours).__name__ == kind and float(ours.lr) == 0.5
    names = ("beta1", "beta2", "eps") if kind != "SGD" else ("momentum",)
    found = [float(getattr(ours, name)) for name in names]
    expected = [0.8, 0.9, 1e-6] if kind != "SGD" else [0.9]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert kind == "SGD" or (ours.amsgrad and ours.dialect == "torch")


# --- one warning where the name is the same and the numbers are not

SWAPS = [
    (_brainpy, "Adam", {}, "dialect='brainpy'"),
    (_brainpy, "AdamW", {}, "dialect='brainpy'"),
    (_brainpy, "SGD", {"weight_decay": 0.1}, "weight_decay=decay / lr"),
    (_braintools, "Adadelta", {}, r"rho=0\.9"),
    (_braintools, "Adagrad", {}, "epsilon=1e-10"),
]


@pytest.mark.parametrize(("make", "name", "settings", "says"), SWAPS)
def test_a_swap_says_once_what_differs(make, name, settings, says, monkeypatch):
    monkeypatch.setattr(_swaps, "_told", set())
    cls, weights = getattr(bo.optim, name), make("SGD")[1]

    with pytest.warns(bo.errors.HostWarning, match=says) as seen:
        cls(0.01, {"x": weights}, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(0.01, {"x": weights}, **settings)
        bo.optim.AdamW(0.01, {"x": weights}, dialect="brainpy")

    assert seen[0].filename == __file__
    assert "brainpy" in sys.modules
