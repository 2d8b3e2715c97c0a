# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with Nesterov's momentum."""

from __future__ import annotations

from typing import Any, Unpack

from ..settings._options import Common
from ._momentum import Momentum


class MomentumNesterov(Momentum):
    r"""Gradient descent with Nesterov's momentum.

    .. math::
        v_t &= \mu v_{t-1} - \gamma_t (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} + \mu v_t - \gamma_t (g_t + \lambda \theta_{t-1})

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        momentum: :math:`\mu` in [0, 1).
        name: a display name.
        common: see `Common`.

    Source: Sutskever et al. 2013, equations 3 and 4, at the point looked ahead to
    (Bengio et al. 2013, equation 7).
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        weight_decay: Any = None,
        momentum: Any = 0.9,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        super().__init__(lr, train_vars, momentum, weight_decay, name, **common)

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its velocity after one step."""
        pull = hyper.lr * hyper.decay(grad, param)
        v = hyper.momentum * slots["v"] - pull
        return param + hyper.momentum * v - pull, {"v": v}
