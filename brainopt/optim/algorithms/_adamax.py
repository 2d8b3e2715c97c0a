# SPDX-License-Identifier: Apache-2.0
"""Adamax: Adam with the maximum norm."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..hyperparameters._fields import (
    Betas,
    Number,
    Rate,
    argument,
    decay_rate,
    number,
    rate,
    together,
)
from ..hyperparameters._hyper import Hyper


class Adamax(Optimizer):
    r"""Adam with the largest gradient so far instead of the second moment.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t}{1 - \beta_1^t} m_t / u_t

    Source: Kingma & Ba 2015, Adam, algorithm 2, with :math:`\epsilon` as in torch.
    """

    _elementwise = True
    _squares = 0

    lr: Rate = rate(default=2e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "an L2 penalty")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m and u."""
        return {"m": zeros(param), "u": zeros(param, is_real=True)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        # Section 7.1: a maximum has no bias towards 0, so only m is corrected.
        u = jnp.maximum(hyper.beta2 * slots["u"], jnp.abs(grad) + hyper.eps)
        lr = hyper.lr / hyper.debias("beta1", step)
        return param - lr * m / u, {"m": m, "u": u}
