# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with a velocity, the learning rate inside it."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..settings._options import Common


class Momentum(Optimizer):
    r"""Gradient descent with momentum.

    .. math::
        v_t &= \mu v_{t-1} - \gamma_t (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} + v_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        momentum: :math:`\mu` in [0, 1).
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        common: see `Common`.

    Source: Polyak 1964; Sutskever et al. 2013, equations 1 and 2.
    Differs: torch and optax (and `SGD` here) keep the learning rate outside the
    velocity, which is the same until the rate changes; brainpy shrinks the parameter
    by ``weight_decay`` itself.
    """

    ranges: ClassVar = {"momentum": "[0, 1)"}

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        momentum: Any = 0.9,
        weight_decay: Any = None,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"momentum": momentum, "weight_decay": weight_decay or 0.0}
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return a velocity of zero."""
        return {"v": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its velocity after one step."""
        v = hyper.momentum * slots["v"] - hyper.lr * hyper.decay(grad, param)
        return param + v, {"v": v}
