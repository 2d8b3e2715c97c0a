# SPDX-License-Identifier: Apache-2.0
"""ASGD: gradient descent whose average is the result."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._averages import Averaged
from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._precision import wide
from ..settings._options import Common


class ASGD(Averaged, Optimizer):
    r"""Averaged gradient descent; ``with opt.swapped():`` evaluates the average.

    .. math::
        \eta_t &= \gamma_t / (1 + l \gamma_t (t - 1))^\alpha \\
        \theta_t &= (1 - l \eta_t) \theta_{t-1} - \eta_t (g_t + \lambda \theta_{t-1}) \\
        a_t &= a_{t-1} + (\theta_t - a_{t-1}) / \max(1, t - 1 - t_0)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        lambd: :math:`l` in [0, inf), the decay.
        alpha: :math:`\alpha` in [0, inf), how fast the rate falls.
        t0: :math:`t_0` in [0, inf), where averaging starts.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        common: see `Common`.

    Source: Polyak & Juditsky 1992, Acceleration of Stochastic Approximation, as torch
    has it.
    """

    def __init__(
        self,
        lr: Any = 1e-2,
        train_vars: Any = None,
        lambd: Any = 1e-4,
        alpha: Any = 0.75,
        t0: Any = 1e6,
        weight_decay: Any = 0.0,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"lambd": lambd, "alpha": alpha, "t0": t0}
        numbers["weight_decay"] = weight_decay
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return the first average, the parameter itself."""
        return {"average": jnp.array(param, wide(param.dtype))}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its average after one step."""
        before = (step - 1).astype(hyper.lr.dtype)
        eta = hyper.lr / (1 + hyper.lambd * hyper.lr * before) ** hyper.alpha
        grad = hyper.decay(grad, param)
        param = param * (1 - hyper.lambd * eta) - eta * grad
        share = 1 / jnp.maximum(1, before - hyper.t0)
        average = slots["average"]
        return param, {"average": average + (param - average) * share}

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        return {path: slots["average"].value for path, slots in self.slots.items()}
