# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent, with momentum and Nesterov momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

from ..._typing import Array, Slots
from ...errors import HyperparameterError, message
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..hyperparameters._fields import Number, argument, flag, number
from ..hyperparameters._hyper import Hyper
from ..settings._spec import is_off


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) g'_t, \quad b_1 = g'_1 \\
        \theta_t &= \theta_{t-1} - \gamma_t \, b_t
            \quad\text{or, with Nesterov,}\quad
            \theta_{t-1} - \gamma_t \, (g'_t + \mu b_t)

    Raises:
        HyperparameterError: a number is out of range, or ``nesterov`` has no momentum.

    Source: Sutskever et al. 2013, On the importance of initialization and momentum, in
    the form that torch and optax use (the learning rate outside the momentum).
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    _elementwise = True
    _squares = 0

    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    momentum: Number = number(
        0.0,
        r"\mu",
        "with 0 at construction no slot is kept and it stays 0",
        range="[0, 1)",
        has_buffer=True,
    )
    dampening: Number = number(0.0, r"\tau", range="[0, 1]")
    nesterov: bool = flag(False, "look ahead along the momentum")
    _is_additive = True

    def _check_arguments(self, given: Mapping[str, Any]) -> None:
        if given["nesterov"] is True and is_off(given["momentum"]):
            raise HyperparameterError(
                message("Nesterov momentum needs `momentum` > 0.")
            )

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros for the momentum, if there is any."""
        return {} if hyper.is_off("momentum") else {"b": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        if hyper.is_off("momentum"):
            return param - hyper.lr * grad, slots
        # torch starts the momentum with the whole first gradient, not dampened.
        first = (step == 1).astype(hyper.lr.dtype)
        b = hyper.momentum * slots["b"] + (1 - hyper.dampening * (1 - first)) * grad
        along = grad + hyper.momentum * b if hyper.nesterov else b
        return param - hyper.lr * along, {"b": b}
