# SPDX-License-Identifier: Apache-2.0
"""RAdam: Adam that waits until its second moment can be trusted."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import safe_sqrt
from ..hyperparameters._fields import (
    Betas,
    Number,
    Rate,
    argument,
    decay_rate,
    flag,
    number,
    rate,
    together,
)
from ..hyperparameters._hyper import Hyper
from ._adam import first_moments, moments


class RAdam(Optimizer):
    r"""Adam, rectified while the second moment has seen few gradients.

    .. math::
        \rho_\infty &= 2 / (1 - \beta_2) - 1, \quad
        \rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}
            {(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}} \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t \cdot
            (r_t / (\sqrt{\hat v_t} + \epsilon) \text{ if } \rho_t > 5 \text{ else } 1)

    Source: Liu et al. 2020, On the Variance of the Adaptive Learning Rate, algorithm 2.
    Differs: the threshold is 5, as in torch and optax (the paper: 4); torch puts
    :math:`\epsilon` on the root of the uncorrected moment.
    """

    _elementwise = True

    lr: Rate = rate(default=1e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "decay")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    decoupled_weight_decay: bool = flag(
        False, "decay the parameter as AdamW does, not the gradient"
    )
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m and v."""
        return first_moments(param)

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if hyper.decoupled_weight_decay:
            param = hyper.decay(param, param, -hyper.lr)
        else:
            grad = hyper.decay(grad, param)
        m, v = moments(grad, slots["m"], slots["v"], hyper)
        m_hat = m / hyper.debias("beta1", step)
        seen = hyper.debias("beta2", step)
        most = 2 / hyper.one_minus("beta2") - 1
        # ρ∞ - 2 t β^t / (1 - β^t) cancels early on, harmlessly: it is below 5 there.
        rho = most - 2 * step.astype(seen.dtype) * (1 - seen) / seen
        # Up to 4 the variance is infinite, and r may be the root of a negative number.
        # 6 replaces such a ρ, and the branch that uses it is not taken.
        sure = rho > 5
        rho = jnp.where(sure, rho, 6.0)
        r = ((rho - 4) * (rho - 2) * most) / ((most - 4) * (most - 2) * rho)
        adapted = m_hat * jnp.sqrt(r) / (safe_sqrt(v / seen) + hyper.eps)
        along = jnp.where(sure, adapted, m_hat)
        return param - hyper.lr * along, {"m": m, "v": v}
