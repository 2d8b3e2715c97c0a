# SPDX-License-Identifier: Apache-2.0
"""Write torch.json: what torch 2.13 makes of fixed gradients, in float64.

Run with a Python that has torch and NumPy: ``python tests/optim/golden/make_torch.py``.
"""

import json
from pathlib import Path

import numpy as np
import torch

STEPS = 12
CASES = {
    "AdamW": (torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1, eps=1e-2)),
    "AdamW-amsgrad": (torch.optim.AdamW, dict(lr=0.01, amsgrad=True, eps=1e-2)),
    "AdamW-maximize": (torch.optim.AdamW, dict(lr=0.01, maximize=True)),
    "Adam": (torch.optim.Adam, dict(lr=0.01, weight_decay=0.1)),
    "SGD": (torch.optim.SGD, dict(lr=0.01, momentum=0.9, dampening=0.5)),
    "SGD-nesterov": (
        torch.optim.SGD,
        dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "Adagrad": (torch.optim.Adagrad, dict(lr=0.01, lr_decay=0.1, eps=1e-10)),
    "Adadelta": (torch.optim.Adadelta, dict(lr=1.0, rho=0.95, eps=1e-6)),
    "RMSProp": (torch.optim.RMSprop, dict(lr=0.01, alpha=0.9, eps=1e-6)),
    "RMSProp-centered": (
        torch.optim.RMSprop,
        dict(lr=0.01, alpha=0.9, eps=1e-6, centered=True, momentum=0.9),
    ),
    "Adamax": (torch.optim.Adamax, dict(lr=0.01)),
    "NAdam": (torch.optim.NAdam, dict(lr=0.01, weight_decay=0.1)),
    "NAdam-decoupled": (
        torch.optim.NAdam,
        dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    ),
    "RAdam": (torch.optim.RAdam, dict(lr=0.01, eps=1e-30)),
    "Rprop": (torch.optim.Rprop, dict(lr=0.01)),
    "ASGD": (torch.optim.ASGD, dict(lr=0.01, t0=3.0)),
    "Adafactor": (torch.optim.Adafactor, dict(lr=0.01, weight_decay=0.1)),
    "Muon": (torch.optim.Muon, dict(lr=0.01, weight_decay=0.1)),
}


def problem():
    """Return one matrix and its gradients; the same numbers as in the tests."""
    rng = np.random.default_rng(7)
    return rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(STEPS)]


def run(cls, settings):
    start, grads = problem()
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    opt = cls([x], **settings)
    for g in grads:
        x.grad = torch.tensor(g, dtype=torch.float64)
        opt.step()
    return x.detach().numpy().tolist()


def sparse():
    """Return an embedding after steps that touch some rows, one of them twice."""
    start, grads = problem()
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    opt = torch.optim.SparseAdam([x], lr=0.01, eps=1e-30)
    for t, g in enumerate(grads):
        rows = torch.tensor([[t % 4, (t + 1) % 4, t % 4]])
        values = torch.tensor(g[:3], dtype=torch.float64)
        x.grad = torch.sparse_coo_tensor(rows, values, x.shape)
        opt.step()
    return x.detach().numpy().tolist()


def rosenbrock(x):
    """Return the loss that L-BFGS is tried on."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def lbfgs():
    """Return where four steps of ten iterations lead, without a line search."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64))
    opt = torch.optim.LBFGS([x], lr=0.1, max_iter=10, history_size=3)

    def closure():
        opt.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    for _ in range(4):
        opt.step(closure)
    return x.detach().numpy().tolist()


def complex_sgd():
    """Return the parts of complex weights after steps down a real loss."""
    start, _ = problem()
    z = torch.nn.Parameter(torch.tensor(start[:2] + 1j * start[2:]))
    opt = torch.optim.SGD([z], lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        opt.zero_grad()
        (torch.abs(z * (1 - 2j) - 1j) ** 2 + z.imag**3).sum().backward()
        opt.step()
    z = z.detach().numpy()
    return [z.real.tolist(), z.imag.tolist()]


def rates(make, steps=25, metric=None):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make(opt)
    found = []
    for i in range(steps):
        found.append(opt.param_groups[0]["lr"])
        opt.step()
        schedule.step(*([] if metric is None else [metric(i)]))
    return found


S = torch.optim.lr_scheduler
SCHEDULES = {
    "StepLR": lambda o: S.StepLR(o, 4, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [3, 7, 8], 0.5),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "LinearLR": lambda o: S.LinearLR(o, 0.25, 1.0, 8),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 24, 0.01),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(
        o, 3, 2, 0.01
    ),
    "CosineAnnealingWarmRestarts-1": lambda o: S.CosineAnnealingWarmRestarts(o, 5),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.1, 26, cycle_momentum=False),
    "OneCycleLR-three": lambda o: S.OneCycleLR(
        o, 0.1, 26, three_phase=True, anneal_strategy="linear", cycle_momentum=False
    ),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, 4, 6, cycle_momentum=False),
    "CyclicLR-2": lambda o: S.CyclicLR(
        o, 0.01, 0.1, 3, mode="triangular2", cycle_momentum=False
    ),
    "CyclicLR-exp": lambda o: S.CyclicLR(
        o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9, cycle_momentum=False
    ),
    "LambdaLR": lambda o: S.LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda t: 0.5 + 0.4 / t),
    "SequentialLR": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, 0.5, 1.0, 5), S.ExponentialLR(o, 0.9)], [6]
    ),
    "ChainedLR": lambda o: S.ChainedScheduler(
        [S.LinearLR(o, 0.5, 1.0, 5), S.ExponentialLR(o, 0.9)]
    ),
}


def metric(i):
    """Return a loss that stalls twice."""
    return [1.0, 0.8, 0.7, 0.7, 0.71, 0.7, 0.72, 0.69, 0.69, 0.69, 0.69, 0.7][i % 12]


def main():
    found = {
        "torch": torch.__version__,
        "optimizers": {name: run(*case) for name, case in CASES.items()},
        "sparse": sparse(),
        "lbfgs": lbfgs(),
        "complex": complex_sgd(),
        "schedules": {name: rates(make) for name, make in SCHEDULES.items()},
        "plateau": rates(
            lambda o: S.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1),
            12,
            metric,
        ),
    }
    path = Path(__file__).with_name("torch.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
