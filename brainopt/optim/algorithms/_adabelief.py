# SPDX-License-Identifier: Apache-2.0
"""AdaBelief: Adam with the variance of the gradient in place of its square."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import pair
from ..engine._tree import abs2
from ..settings._options import Common
from ._moments import Moments


class AdaBelief(Moments):
    r"""Adam that measures how far gradients lie from their mean.

    .. math::
        s_t &= \beta_2 s_{t-1} + (1 - \beta_2) |g_t - m_t|^2 + \epsilon_r \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t / (\sqrt{\hat s_t} + \epsilon)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf), as in AdamW.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        eps_root: :math:`\epsilon_r` in [0, inf).
        common: see `Common`.

    Source: Zhuang et al. 2020, AdaBelief Optimizer, algorithm 2.
    """

    def __init__(
        self,
        lr: Any = 1e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-16,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        eps_root: Any = 1e-16,
        **common: Unpack[Common],
    ):
        betas = pair(betas, beta1, beta2)
        super().__init__(
            lr, train_vars, name, betas, eps, weight_decay, eps_root, **common
        )

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad - m)
        v = v + hyper.eps_root
        u = m / hyper.debias("beta1", step)
        u = u / (jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps)
        return param - hyper.lr * hyper.decay(u, param), {"m": m, "v": v}
