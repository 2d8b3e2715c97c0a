# SPDX-License-Identifier: Apache-2.0
"""Optimizers and schedules against numbers that torch and brainpy produced.

``golden/make_torch.py`` and ``golden/make_brainpy.py`` made them.
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
    "CosineAnnealingWarmRestarts-1": optim.CosineAnnealingWarmRestarts(0.1, 1, 5),
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
