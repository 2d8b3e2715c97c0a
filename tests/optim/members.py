# SPDX-License-Identifier: Apache-2.0
"""The one list of optimizers that every promise is checked against.

A new optimizer is one line here. ``reference`` comes from `references`, ``optax`` makes
the optax transformation that must agree, ``torch`` names the entry of the golden
numbers with the arguments under which the formulas are the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import optax
import pytest

from brainopt import optim
from tests.optim import references


@dataclasses.dataclass
class Member:
    """One optimizer, its settings and its oracles."""

    cls: Any
    settings: dict = dataclasses.field(default_factory=dict)
    reference: Callable | None = None
    optax: Callable | None = None
    also: str = ""
    whole: bool = False  # sees all variables at once
    matrix: bool = False  # the reference is for one variable with two axes

    def make(self, train_vars=None, **more):
        return self.cls(train_vars=train_vars, **{**self.settings, **more})

    @property
    def name(self):
        return self.cls.__name__ + self.also


def _member(cls, reference=None, optax=None, also="", whole=False, **settings):
    settings.setdefault("lr", 0.01)
    return Member(cls, settings, reference, optax, also, whole)


_R = references
MEMBERS = [
    _member(optim.SGD, _R.sgd, lambda: optax.sgd(0.01)),
    _member(optim.SGD, _R.sgd, lambda: optax.sgd(0.01, 0.9), "-momentum", momentum=0.9),
    _member(
        optim.SGD,
        _R.sgd,
        lambda: optax.sgd(0.01, 0.9, nesterov=True),
        "-nesterov",
        momentum=0.9,
        nesterov=True,
    ),
    _member(optim.SGD, _R.sgd, None, "-damped", momentum=0.9, dampening=0.5),
    _member(optim.Momentum, _R.momentum, weight_decay=0.1),
    _member(optim.MomentumNesterov, _R.nesterov, weight_decay=0.1),
    _member(optim.Adagrad, _R.adagrad, lr_decay=0.1, weight_decay=0.1),
    _member(
        optim.Adadelta,
        _R.adadelta,
        lambda: optax.adadelta(1.0, rho=0.95),
        lr=1.0,
    ),
    _member(
        optim.RMSProp,
        _R.rmsprop,
        lambda: optax.rmsprop(0.01, decay=0.9, eps=1e-6),
    ),
    _member(
        optim.RMSProp,
        _R.rmsprop,
        lambda: optax.rmsprop(0.01, decay=0.9, eps=1e-6, centered=True, momentum=0.9),
        "-centered",
        centered=True,
        momentum=0.9,
    ),
    _member(optim.Adam, _R.adam, lambda: optax.adam(0.01)),
    _member(optim.Adam, _R.adam, None, "-l2", weight_decay=0.1),
    _member(optim.AdamW, _R.adamw, lambda: optax.adamw(0.01, weight_decay=0.01)),
    _member(optim.AdamW, _R.adamw, None, "-amsgrad", amsgrad=True),
    _member(optim.LARS, _R.lars),
    _member(
        optim.Lamb,
        _R.lamb,
        lambda: optax.lamb(0.01, weight_decay=0.1),
        weight_decay=0.1,
    ),
    _member(optim.Adan, _R.adan),
    _member(optim.Adan, _R.adan, None, "-no_prox", no_prox=True),
    _member(optim.SM3, _R.sm3, momentum=0.5),
    _member(optim.SM3, _R.sm3, None, "-mean", beta=0.9),
    _member(optim.Adamax, _R.adamax, lambda: optax.adamax(0.01)),
    _member(optim.NAdam, _R.nadam, weight_decay=0.1),
    _member(optim.RAdam, _R.radam, lambda: optax.radam(0.01)),
    _member(
        optim.Lion,
        _R.lion,
        lambda: optax.lion(0.01, weight_decay=0.1),
        weight_decay=0.1,
    ),
    _member(optim.AdaBelief, _R.adabelief, lambda: optax.adabelief(0.01)),
    _member(optim.Yogi, _R.yogi, lambda: optax.yogi(0.01)),
    _member(optim.Rprop, _R.rprop),
    _member(optim.ASGD, _R.asgd, weight_decay=0.1),
    _member(optim.Adafactor, _R.adafactor, weight_decay=0.1),
    _member(optim.Muon, _R.muon),
    _member(
        optim.ScheduleFreeAdamW,
        _R.schedule_free,
        lambda: optax.contrib.schedule_free_adamw(0.01),
    ),
    _member(optim.SparseAdam, _R.sparse_adam),
    _member(optim.LBFGS, _R.lbfgs, whole=True, history_size=3),
]
WHOLE = Member(
    optim.Optax, {"tx": optax.adamw(0.01)}, None, lambda: optax.adamw(0.01), whole=True
)
ALL = [*MEMBERS, WHOLE]


NO_MEMBERS = {
    "Optimizer",
    "EMA",
    "SAM",
    "Lookahead",
    "RLS",
}  # no steps of their own by gradients
FEW = ("AdamW", "Muon", "Optax")


def each(few=False, but=(), **conditions):
    """Parametrize a test over the members that meet some conditions.

    With ``few`` the quick suite takes some of every kind, the long one the others.
    Classes in ``but`` do not promise it.
    """
    chosen = [
        m
        for m in ALL
        if all(bool(getattr(m, k)) == wanted for k, wanted in conditions.items())
        and m.cls not in but
    ]
    params = [
        pytest.param(
            m, id=m.name, marks=[pytest.mark.long] * (few and m.name not in FEW)
        )
        for m in chosen
    ]
    return pytest.mark.parametrize("member", params)


SHAPES = {"W": (4, 3), "b": (3,)}


def problem(steps=6, seed=0, dtype=np.float64):
    """Return parameters and the gradients of some steps, as numpy arrays."""
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()}
    grads = [
        {k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()}
        for _ in range(steps)
    ]
    return params, grads
