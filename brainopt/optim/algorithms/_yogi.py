# SPDX-License-Identifier: Apache-2.0
"""Yogi: Adam whose second moment cannot fall fast."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2
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
from ._adam import first_moments


class Yogi(Optimizer):
    r"""Adam whose second moment cannot fall fast.

    .. math::
        v_t &= v_{t-1} - (1 - \beta_2)
            \operatorname{sign}(v_{t-1} - |g_t|^2) |g_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    Source: Zaheer et al. 2018, Adaptive Methods for Nonconvex Optimization, algorithm
    2.
    Differs: bias correction and the first values, as optax has them.
    """

    _elementwise = True

    lr: Rate = rate(default=1e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-3, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "as in AdamW", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    initial_accumulator_value: Number = number(1e-6, "m_0 = v_0")
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return the first moments."""
        start = hyper.initial_accumulator_value
        return {name: slot + start for name, slot in first_moments(param).items()}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        square = abs2(grad)
        v = slots["v"]
        # Adam falls by (1 - β₂)(v - g²), without bound in v; here by at most (1 - β₂)
        # g².
        v = v - hyper.one_minus("beta2") * jnp.sign(v - square) * square
        u = m / hyper.debias("beta1", step)
        u = u / (jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps)
        return param - hyper.lr * hyper.decay(u, param), {"m": m, "v": v}
