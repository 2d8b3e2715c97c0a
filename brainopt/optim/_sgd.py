# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent, with momentum and Nesterov momentum."""

from __future__ import annotations

from typing import Any

from ..errors import HyperparameterError, message
from ._optimizer import Optimizer, zeros


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + g'_t \\
        \theta_t &= \theta_{t-1} - \gamma_t \, b_t
            \quad\text{or, with Nesterov,}\quad
            \theta_{t-1} - \gamma_t \, (g'_t + \mu b_t)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or
            a callable of the step.
        train_vars: what to train; see `Optimizer`.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        momentum: :math:`\mu` in [0, 1); with 0 at construction no slot is kept and it
            stays 0.
        nesterov: look ahead along the momentum.

    Raises:
        HyperparameterError: a number is out of range, or ``nesterov`` has no momentum.

    Source: Sutskever et al. 2013, On the importance of initialization and momentum, in
    the form that torch and optax use (the learning rate outside the momentum).
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    decays = ("momentum",)
    options = ("nesterov",)

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        weight_decay: float | None = None,
        name: str | None = None,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
    ):
        self.nesterov = bool(nesterov)
        self._plain = isinstance(momentum, int | float) and momentum == 0
        if self._plain and self.nesterov:
            raise HyperparameterError(
                message("Nesterov momentum needs `momentum` > 0.")
            )
        numbers = {"weight_decay": weight_decay or 0.0}
        if not self._plain:
            numbers["momentum"] = momentum
        super().__init__(lr, train_vars, name, **numbers)

    def init_slots(self, param: Any) -> dict[str, Any]:
        """Return zeros for the momentum, if there is any."""
        return {} if self._plain else {"b": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = grad + hyper.weight_decay * param
        if self._plain:
            return param - hyper.lr * grad, slots
        b = hyper.momentum * slots["b"] + grad
        along = grad + hyper.momentum * b if self.nesterov else b
        return param - hyper.lr * along, {"b": b}
