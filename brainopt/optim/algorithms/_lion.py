# SPDX-License-Identifier: Apache-2.0
"""Lion: the sign of a momentum."""

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


class Lion(Optimizer):
    r"""Steps of equal size in every element, along the sign of a momentum.

    .. math::
        \theta_t &= \theta_{t-1} - \gamma_t \left(
            \operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1) g_t)
            + \lambda \theta_{t-1} \right) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    Source: Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, program 1.
    """

    _elementwise = True
    _squares = 0

    lr: Rate = rate(default=1e-4)
    beta1: Number = decay_rate(0.9, r"\beta_1", "how the step mixes")
    beta2: Number = decay_rate(0.99, r"\beta_2", "of the momentum")
    weight_decay: Number = number(0.0, r"\lambda", "as in AdamW")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return a momentum of zero."""
        return {"m": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its momentum after one step."""
        # Two mixtures of one momentum: β₁ for the step, β₂ for what is kept. The step
        # comes first and uses the momentum before.
        u = jnp.sign(hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad)
        m = hyper.beta2 * slots["m"] + hyper.one_minus("beta2") * grad
        return param - hyper.lr * hyper.decay(u, param), {"m": m}
