# SPDX-License-Identifier: Apache-2.0
"""Write brainpy.json: what brainpy 2.8 makes of fixed gradients and schedules.

Run with a Python that has brainpy: ``python tests/optim/golden/make_brainpy.py``.
"""

import importlib.metadata
import json
from pathlib import Path

import brainpy as bp
import brainpy.math as bm
import numpy as np

STEPS = 12
CASES = {
    "AdamW": (bp.optim.AdamW, dict(lr=0.01, weight_decay=0.1, eps=1e-2)),
    "AdamW-amsgrad": (bp.optim.AdamW, dict(lr=0.01, amsgrad=True, eps=1e-2)),
    "SGD": (bp.optim.SGD, dict(lr=0.01)),
    "Momentum": (bp.optim.Momentum, dict(lr=0.01)),
    "MomentumNesterov": (bp.optim.MomentumNesterov, dict(lr=0.01)),
    "Adagrad": (bp.optim.Adagrad, dict(lr=0.01)),
    "Adadelta": (bp.optim.Adadelta, dict(lr=1.0)),
    "RMSProp": (bp.optim.RMSProp, dict(lr=0.01)),
    "LARS": (bp.optim.LARS, dict(lr=0.01)),
    "Adan": (bp.optim.Adan, dict(lr=0.01)),
    "Adan-no_prox": (bp.optim.Adan, dict(lr=0.01, no_prox=True)),
    "Adam": (bp.optim.Adam, dict(lr=0.01)),
    "SM3": (bp.optim.optimizer.SM3, dict(lr=0.01, momentum=0.5)),
}


def problem():
    """Return one matrix and its gradients; the same numbers as in the tests."""
    rng = np.random.default_rng(7)
    return rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(STEPS)]


def run(cls, settings):
    start, grads = problem()
    x = bm.TrainVar(bm.asarray(start))
    opt = cls(train_vars={"x": x}, **settings)
    for g in grads:
        opt.update({"x": bm.as_jax(bm.asarray(g))})
    return np.asarray(x.value).tolist()


S = bp.optim
EPOCHS = {
    "StepLR": S.StepLR(0.1, 4, 0.5),
    "MultiStepLR": S.MultiStepLR(0.1, [3, 7, 8], 0.5),
    "ExponentialLR": S.ExponentialLR(0.1, 0.9),
    "CosineAnnealingLR": S.CosineAnnealingLR(0.1, 24, 0.01),
}
CALLS = {
    "PiecewiseConstantLR": S.PiecewiseConstantLR([3, 7], [0.1, 0.05, 0.01]),
    "ExponentialDecayLR": S.ExponentialDecayLR(0.1, 5, 0.9),
    "InverseTimeDecayLR": S.InverseTimeDecayLR(0.1, 5, 0.9),
    "InverseTimeDecayLR-stairs": S.InverseTimeDecayLR(0.1, 5, 0.9, True),
    "PolynomialDecayLR": S.PolynomialDecayLR(0.1, 10, 0.01, 2.0),
}


def rates(schedule, advance, steps=12):
    found = []
    for _ in range(steps):
        found.append(float(bm.as_jax(schedule())))
        getattr(schedule, advance)()
    return found


def main():
    found = {
        "brainpy": importlib.metadata.version("brainpy"),
        "optimizers": {name: run(*case) for name, case in CASES.items()},
        "schedules": {name: rates(s, "step_epoch") for name, s in EPOCHS.items()}
        | {name: rates(s, "step_call") for name, s in CALLS.items()},
    }
    path = Path(__file__).with_name("brainpy.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
