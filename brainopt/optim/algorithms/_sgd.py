# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent, with momentum and Nesterov momentum."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from ...errors import HyperparameterError, message
from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..settings._groups import is_off
from ..settings._options import Common


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) g'_t, \quad b_1 = g'_1 \\
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
        dampening: :math:`\tau` in [0, 1].
        nesterov: look ahead along the momentum.
        common: see `Common`.

    Raises:
        HyperparameterError: a number is out of range, or ``nesterov`` has no momentum.

    Source: Sutskever et al. 2013, On the importance of initialization and momentum, in
    the form that torch and optax use (the learning rate outside the momentum).
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    ranges: ClassVar = {"momentum": "[0, 1)", "dampening": "[0, 1]"}

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        weight_decay: Any = None,
        name: str | None = None,
        *,
        momentum: Any = 0.0,
        dampening: Any = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ):
        plain = is_off(momentum)
        if nesterov and plain:
            raise HyperparameterError(
                message("Nesterov momentum needs `momentum` > 0.")
            )
        numbers = {
            "weight_decay": 0.0 if weight_decay is None else weight_decay,
            "momentum": momentum,
            "dampening": dampening,
        }
        options = {"nesterov": bool(nesterov), "no_momentum": plain}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros for the momentum, if there is any."""
        return {} if hyper.no_momentum else {"b": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        if hyper.no_momentum:
            return param - hyper.lr * grad, slots
        first = (step == 1).astype(hyper.lr.dtype)
        b = hyper.momentum * slots["b"] + (1 - hyper.dampening * (1 - first)) * grad
        along = grad + hyper.momentum * b if hyper.nesterov else b
        return param - hyper.lr * along, {"b": b}
