# SPDX-License-Identifier: Apache-2.0
"""Adam: adaptive moments, with weight decay through the gradient."""

from __future__ import annotations

from typing import Any, Unpack

from .._hyperparameters import pair
from ..settings._options import Common
from ._moments import Moments


class Adam(Moments):
    r"""Adam, with L2 regularisation added to the gradient.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g'_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g'_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{m_t / (1 - \beta_1^t)}
            {\sqrt{v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}

    Args:
        lr: :math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or
            a callable of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf), outside the root of the corrected moment.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        amsgrad: divide by the root of the largest :math:`\hat v` so far.
        eps_root: :math:`\epsilon_r` in [0, inf), inside the root.
        common: see `Common`.

    Raises:
        HyperparameterError: a number is out of its range.

    Source: Kingma & Ba 2015, Adam, algorithm 1.
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = None,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        amsgrad: bool = False,
        eps_root: Any = 0.0,
        **common: Unpack[Common],
    ):
        betas = pair(betas, beta1, beta2)
        super().__init__(
            lr, train_vars, name, betas, eps, weight_decay, eps_root, amsgrad, **common
        )

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        direction, slots = self.direction(grad, slots, hyper, step)
        return param - hyper.lr * direction, slots
