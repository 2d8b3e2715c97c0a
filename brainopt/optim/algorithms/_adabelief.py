# SPDX-License-Identifier: Apache-2.0
"""AdaBelief: Adam with the variance of the gradient in place of its square."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
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


class AdaBelief(Optimizer):
    r"""Adam that measures how far gradients lie from their mean.

    .. math::
        s_t &= \beta_2 s_{t-1} + (1 - \beta_2) |g_t - m_t|^2 + \epsilon_r \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t / (\sqrt{\hat s_t} + \epsilon)

    Source: Zhuang et al. 2020, AdaBelief Optimizer, algorithm 2.
    """

    _elementwise = True

    lr: Rate = rate(default=1e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-16, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "as in AdamW", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    eps_root: Number = number(1e-16, r"\epsilon_r", "inside the root")
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m, and the variance of the gradient around it."""
        return {"m": zeros(param), "variance": zeros(param, is_real=True)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["variance"] + hyper.one_minus("beta2") * abs2(grad - m)
        # Added to the slot in each step, as in algorithm 2: it grows to ε_r / (1 - β₂).
        v = v + hyper.eps_root
        u = m / hyper.debias("beta1", step)
        u = u / (jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps)
        return param - hyper.lr * hyper.decay(u, param), {"m": m, "variance": v}
