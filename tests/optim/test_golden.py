# SPDX-License-Identifier: Apache-2.0
"""Optimizers and schedules against numbers that torch, brainpy and keras produced.

``golden/make_torch.py``, ``make_brainpy.py`` and ``make_keras.py`` made them.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import optim

GOLDEN = Path(__file__).parent / "golden"
TORCH = json.loads((GOLDEN / "torch.json").read_text())
BRAINPY = json.loads((GOLDEN / "brainpy.json").read_text())
KERAS = json.loads((GOLDEN / "keras.json").read_text())
LR = dict(lr=0.01)
OUTSIDE = dict(eps_in_root=False)

AS_TORCH = {
    "AdamW": (optim.AdamW, dict(LR, dialect="torch", weight_decay=0.1, eps=1e-2)),
    "AdamW-amsgrad": (
        optim.AdamW,
        dict(LR, dialect="torch", amsgrad=True, eps=1e-2),
    ),
    "AdamW-maximize": (optim.AdamW, dict(LR, maximize=True)),
    "Adam": (optim.Adam, dict(LR, weight_decay=0.1)),
    "SGD": (optim.SGD, dict(LR, momentum=0.9, dampening=0.5)),
    "SGD-nesterov": (
        optim.SGD,
        dict(LR, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "Adagrad": (optim.Adagrad, dict(LR, lr_decay=0.1, epsilon=1e-10, **OUTSIDE)),
    "Adadelta": (optim.Adadelta, {}),
    "RMSProp": (optim.RMSProp, dict(LR, **OUTSIDE)),
    "RMSProp-centered": (
        optim.RMSProp,
        dict(LR, centered=True, momentum=0.9, **OUTSIDE),
    ),
    "Adamax": (optim.Adamax, LR),
    "NAdam": (optim.NAdam, dict(LR, weight_decay=0.1)),
    "NAdam-decoupled": (
        optim.NAdam,
        dict(LR, weight_decay=0.1, decoupled_weight_decay=True),
    ),
    "RAdam": (optim.RAdam, dict(LR, eps=1e-30)),
    "Rprop": (optim.Rprop, LR),
    "ASGD": (optim.ASGD, dict(LR, t0=3.0)),
    "Adafactor": (optim.Adafactor, dict(LR, weight_decay=0.1)),
    "Muon": (optim.Muon, LR),
}
AS_BRAINPY = {
    "AdamW": (optim.AdamW, dict(LR, dialect="brainpy", weight_decay=0.1, eps=1e-2)),
    "AdamW-amsgrad": (
        optim.AdamW,
        dict(LR, dialect="brainpy", amsgrad=True, eps=1e-2),
    ),
    "SGD": (optim.SGD, LR),
    "Momentum": (optim.Momentum, LR),
    "MomentumNesterov": (optim.MomentumNesterov, LR),
    "Adagrad": (optim.Adagrad, LR),
    "Adadelta": (optim.Adadelta, {}),
    "RMSProp": (optim.RMSProp, LR),
    "LARS": (optim.LARS, LR),
    "Adan": (optim.Adan, LR),
    "Adan-no_prox": (optim.Adan, dict(LR, no_prox=True)),
    "Adam": (optim.Adam, LR),
    "SM3": (optim.SM3, dict(LR, momentum=0.5)),
}


def _run(cls, settings):
    rng = np.random.default_rng(7)
    x = bo.TrainVar(jnp.asarray(rng.normal(size=(4, 3))))
    opt = cls(train_vars=x, **settings)
    for _ in range(12):
        opt.update(jnp.asarray(rng.normal(size=(4, 3))))
    return x.value


@pytest.mark.parametrize("name", TORCH["optimizers"])
def test_an_optimizer_equals_torch(name, x64):
    # torch iterates Muon in bfloat16 and keeps some scalars in float32.
    close = {"Muon": 2e-2, "NAdam": 1e-7, "NAdam-decoupled": 1e-7, "ASGD": 1e-7}
    close = close.get(name, 1e-11)

    x = _run(*AS_TORCH[name])

    np.testing.assert_allclose(
        x, TORCH["optimizers"][name], rtol=close, atol=close / 10
    )


@pytest.mark.parametrize("name", BRAINPY["optimizers"])
def test_an_optimizer_equals_brainpy(name):
    x = _run(*AS_BRAINPY[name])

    np.testing.assert_allclose(x, BRAINPY["optimizers"][name], rtol=1e-6, atol=1e-6)


AS_KERAS = {
    "AdamW": {},
    "AdamW-amsgrad": dict(amsgrad=True),
    "AdamW-decay": dict(weight_decay=0.3, eps=1e-2),
    "AdamW-all": dict(
        lr=0.02, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-3, amsgrad=True
    ),
    "AdamW-exempt": dict(weight_decay=0.3, mask="W"),
}


@pytest.mark.parametrize("name", KERAS["optimizers"])
def test_120_steps_equal_keras(name, x64):
    rng, shapes = np.random.default_rng(11), {"W": (4, 3), "b": (3,)}
    start = {k: rng.normal(size=s) for k, s in shapes.items()}
    variables = {k: bo.TrainVar(jnp.asarray(v)) for k, v in start.items()}
    usual = dict(lr=0.01, eps=1e-7, weight_decay=4e-3, dialect="keras")
    opt = optim.AdamW(train_vars=variables, **{**usual, **AS_KERAS[name]})
    step, found = bo.jit(opt.update), {}

    for t, size in enumerate(np.exp(rng.normal(size=120)), 1):
        g = {k: jnp.asarray(size * rng.normal(size=s)) for k, s in shapes.items()}
        step(g)
        found[str(t)] = {k: np.asarray(v.value) for k, v in variables.items()}

    assert list(KERAS["optimizers"][name]) == ["1", "10", "120"]
    for t, expected in KERAS["optimizers"][name].items():
        for key, value in expected.items():
            np.testing.assert_allclose(found[t][key], value, rtol=1e-12, atol=1e-14)


def _problem():
    rng = np.random.default_rng(7)
    return rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(12)]


def test_row_gradients_equal_torch(x64):
    # torch's SparseAdam adds eps to the root of the uncorrected moment.
    start, grads = _problem()
    table = bo.TrainVar(jnp.asarray(start))
    step = bo.jit(optim.SparseAdam(0.01, table, eps=1e-30).update)

    for t, g in enumerate(grads):
        rows = jnp.asarray([t % 4, (t + 1) % 4, t % 4])
        step(optim.Rows(rows, jnp.asarray(g[:3])))

    np.testing.assert_allclose(table.value, TORCH["sparse"], rtol=1e-12)


def test_lbfgs_without_a_line_search_equals_torch(x64):
    w = bo.TrainVar(jnp.asarray([-1.2, 1.0, -0.5, 0.8]))
    opt = optim.LBFGS(0.1, w, max_iter=10, history_size=3, line_search=False)

    def loss():
        x = w.value
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    step = bo.jit(lambda: opt.step(loss))
    for _ in range(4):
        step()

    np.testing.assert_allclose(w.value, TORCH["lbfgs"], rtol=1e-9)


@pytest.mark.parametrize("through", ["grad", "closure"])
def test_complex_weights_go_where_torch_takes_them(through, x64):
    start, _ = _problem()
    z = bo.TrainVar(jnp.asarray(start[:2] + 1j * start[2:]))
    opt = optim.SGD(0.1, z, momentum=0.9)

    def loss():
        off = jnp.abs(z.value * (1 - 2j) - 1j) ** 2
        return (off + z.value.imag**3).sum()

    for _ in range(12):
        if through == "grad":
            opt.update(bo.grad(loss, z)())
        else:
            opt.step(loss)

    real, imag = map(np.asarray, TORCH["complex"])
    np.testing.assert_allclose(z.value, real + 1j * imag, rtol=1e-12)


def _power(t):
    return 1 / (1 + t)


SCHEDULES = {
    "StepLR": optim.StepLR(0.1, 4, 0.5),
    "MultiStepLR": optim.MultiStepLR(0.1, [3, 7, 8], 0.5),
    "ExponentialLR": optim.ExponentialLR(0.1, 0.9),
    "LinearLR": optim.LinearLR(0.1, 0.25, 1.0, 8),
    "PolynomialLR": optim.PolynomialDecayLR(0.1, 10, 0.0, 2.0),
    "CosineAnnealingLR": optim.CosineAnnealingLR(0.1, 24, 0.01),
    "CosineAnnealingWarmRestarts": optim.CosineAnnealingWarmRestarts(
        0.1, 1, 3, 2, 0.01
    ),
    "CosineAnnealingWarmRestarts-1": optim.CosineAnnealingWarmRestarts(
        0.1, num_call_per_epoch=1, T_0=5
    ),
    "OneCycleLR": optim.OneCycleLR(0.1, 26),
    "OneCycleLR-three": optim.OneCycleLR(
        0.1, 26, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": optim.CyclicLR(0.01, 0.1, 4, 6),
    "CyclicLR-2": optim.CyclicLR(0.01, 0.1, 3, mode="triangular2"),
    "CyclicLR-exp": optim.CyclicLR(0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "LambdaLR": optim.LambdaLR(0.1, _power),
    "MultiplicativeLR": optim.MultiplicativeLR(0.1, lambda t: 0.5 + 0.4 / t, 30),
    "SequentialLR": optim.SequentialLR(
        [optim.LinearLR(0.1, 0.5, 1.0, 5), optim.ExponentialLR(0.1, 0.9)], [6]
    ),
    "ChainedLR": optim.ChainedLR(
        [optim.LinearLR(0.1, 0.5, 1.0, 5), optim.ExponentialLR(0.1, 0.9)]
    ),
    "PiecewiseConstantLR": optim.PiecewiseConstantLR([3, 7], [0.1, 0.05, 0.01]),
    "ExponentialDecayLR": optim.ExponentialDecayLR(0.1, 5, 0.9),
    "InverseTimeDecayLR": optim.InverseTimeDecayLR(0.1, 5, 0.9),
    "InverseTimeDecayLR-stairs": optim.InverseTimeDecayLR(0.1, 5, 0.9, True),
    "PolynomialDecayLR": optim.PolynomialDecayLR(0.1, 10, 0.01, 2.0),
}
LATE = {"MultiStepLR", "PiecewiseConstantLR"}  # brainpy is one epoch late in these


@pytest.mark.parametrize("name", TORCH["schedules"])
def test_a_schedule_equals_torch(name):
    schedule, expected = SCHEDULES[name], TORCH["schedules"][name]

    found = [float(schedule(t)) for t in range(len(expected))]

    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", BRAINPY["schedules"])
def test_a_schedule_equals_brainpy(name):
    schedule, expected = SCHEDULES[name], BRAINPY["schedules"][name]
    late = name in LATE

    found = [float(schedule(t)) for t in range(len(expected) - late)]

    np.testing.assert_allclose(found, expected[late:], rtol=2e-5, atol=1e-8)


def test_plateau_equals_torch():
    losses = [1.0, 0.8, 0.7, 0.7, 0.71, 0.7, 0.72, 0.69, 0.69, 0.69, 0.69, 0.7]
    schedule = optim.ReduceLROnPlateau(0.1, factor=0.5, patience=1, cooldown=1)
    step = bo.jit(schedule.step_metric)
    found = []

    for loss in losses:
        found.append(float(schedule.current))
        step(loss)

    np.testing.assert_allclose(found, TORCH["plateau"], rtol=1e-6)
