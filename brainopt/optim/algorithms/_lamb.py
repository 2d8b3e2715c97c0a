# SPDX-License-Identifier: Apache-2.0
"""LAMB: Adam with a rate for each variable."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import pair
from ..engine._gradients import global_norm
from ..settings._options import Common
from ._moments import Moments


class Lamb(Moments):
    r"""Adam with a rate for each variable.

    .. math::
        u_t &= \hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{\|\theta_{t-1}\|}{\|u_t\|} u_t

    with a ratio of 1 where a norm is zero.

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: in [0, 1), decay rate of the first moment.
        beta2: in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: :math:`\lambda` in [0, inf).
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        common: see `Common`.

    Source: You et al. 2020, Large Batch Optimization for Deep Learning, algorithm 2.
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-6,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        **common: Unpack[Common],
    ):
        betas = pair(betas, beta1, beta2)
        super().__init__(lr, train_vars, name, betas, eps, weight_decay, **common)

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        u, slots = self.direction(grad, slots, hyper, step)
        u = hyper.decay(u, param)
        size, length = global_norm(param), global_norm(u)
        fine = (size > 0) & (length > 0)
        ratio = jnp.where(fine, size / jnp.where(fine, length, 1), jnp.ones_like(size))
        return param - hyper.lr * ratio * u, slots
