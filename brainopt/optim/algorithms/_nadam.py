# SPDX-License-Identifier: Apache-2.0
"""NAdam: Adam with Nesterov momentum that warms up."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, safe_sqrt, zeros
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


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum and its momentum schedule.

    .. math::
        \mu_t &= \beta_1 (1 - 0.96^{t \psi} / 2) \\
        \theta_t &= \theta_{t-1} - \gamma_t \left(
            \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i}
            + \frac{(1 - \mu_t) g_t}{1 - \prod_{i \le t} \mu_i} \right)
            / (\sqrt{\hat v_t} + \epsilon)

    Source: Dozat 2016, Incorporating Nesterov Momentum into Adam, with the schedule
    that torch uses. ``AdamW(nesterov=True)`` is optax's variant, without it.
    """

    _needs = "one number for each variable, its product of momenta"

    lr: Rate = rate(default=2e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "decay")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    momentum_decay: Number = number(4e-3, r"\psi")
    decoupled_weight_decay: bool = flag(
        False, "decay the parameter as AdamW does, not the gradient"
    )
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros m and v, and the product of the momenta, 1."""
        v = zeros(param, is_real=True)
        return {"m": zeros(param), "v": v, "product": jnp.ones((), v.dtype)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if hyper.decoupled_weight_decay:
            param = hyper.decay(param, param, -hyper.lr)
        else:
            grad = hyper.decay(grad, param)
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        # The momentum changes from step to step, so that bias correction needs the
        # product of all of them in the place of a power: up to t for the gradient, up
        # to t + 1 for the momentum that looks ahead.
        mu, ahead = _momentum(step, hyper), _momentum(step, hyper, 1)
        product = slots["product"] * mu
        root = safe_sqrt(v / hyper.debias("beta2", step)) + hyper.eps
        along = (1 - mu) / (1 - product) * grad + ahead / (1 - product * ahead) * m
        new = {"m": m, "v": v, "product": product}
        return param - hyper.lr * along / root, new


def _momentum(step: Any, hyper: Hyper, ahead: int = 0) -> Any:
    # Added as a float: the last int32 has no successor.
    time = (step.astype(hyper.lr.dtype) + ahead) * hyper.momentum_decay
    return hyper.beta1 * (1 - 0.5 * 0.96**time)
