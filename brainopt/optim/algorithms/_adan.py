# SPDX-License-Identifier: Apache-2.0
"""Adan: Nesterov momentum by the differences of gradients."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Scalar, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, safe_sqrt, zeros
from ..hyperparameters._fields import (
    Number,
    Rate,
    argument,
    flag,
    number,
    rate,
    together,
)
from ..hyperparameters._hyper import Hyper

_BETAS = (
    r":math:`\beta_1, \beta_2, \beta_3` in (0, 1], as in the paper and in brainpy: "
    "small; optax takes 1 - β"
)
_NO_PROX = r"decay as AdamW does, by :math:`1 - \gamma_t \lambda` before the step"


class Adan(Optimizer):
    r"""Adaptive Nesterov momentum.

    .. math::
        m_t &= (1 - \beta_1) m_{t-1} + \beta_1 g_t \\
        v_t &= (1 - \beta_2) v_{t-1} + \beta_2 (g_t - g_{t-1}) \\
        n_t &= (1 - \beta_3) n_{t-1}
            + \beta_3 |g_t + (1 - \beta_2)(g_t - g_{t-1})|^2 \\
        \theta_t &= \left( \theta_{t-1} - \gamma_t
            \frac{\hat m_t + (1 - \beta_2) \hat v_t}{\sqrt{\hat n_t} + \epsilon}
            \right) / (1 + \gamma_t \lambda)

    with :math:`g_0 = g_1` and bias-corrected means.

    Source: Xie et al. 2022, Adan, algorithm 1.
    Differs: bias correction, as in the authors' program; optax multiplies the
    differences by :math:`\beta_2`, not by :math:`1 - \beta_2`.
    """

    _elementwise = True

    lr: Rate = rate(default=1e-3)
    beta1 = number(range="(0, 1]")
    beta2 = number(range="(0, 1]")
    beta3 = number(range="(0, 1]")
    betas: tuple[Scalar, Scalar, Scalar] = together(
        "beta1", "beta2", "beta3", default=(0.02, 0.08, 0.01), doc=_BETAS
    )
    eps: Number = number(1e-8, r"\epsilon")
    weight_decay: Number = number(0.02, r"\lambda", "decay of the parameter")
    no_prox: bool = flag(False, _NO_PROX)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    eps_root: Number = number(0.0, doc="added inside the root")

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m, the mean change, n and the gradient before."""
        slots = {name: zeros(param) for name in ("m", "change", "prev")}
        return slots | {"n": zeros(param, is_real=True)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        b1, b2, b3 = hyper.beta1, hyper.beta2, hyper.beta3
        # There is no gradient before the first: g_0 = g_1 makes the first change 0.
        change = jnp.where(step == 1, jnp.zeros_like(grad), grad - slots["prev"])
        m = (1 - b1) * slots["m"] + b1 * grad
        v = (1 - b2) * slots["change"] + b2 * change
        n = (1 - b3) * slots["n"] + b3 * abs2(grad + (1 - b2) * change)
        # 1 - (1 - β)^t as -expm1(t log1p(-β)), which is also exact for β = 1.
        m_hat, v_hat, n_hat = (
            x / -jnp.expm1(step.astype(b.dtype) * jnp.log1p(-b))
            for x, b in ((m, b1), (v, b2), (n, b3))
        )
        u = (m_hat + (1 - b2) * v_hat) / (safe_sqrt(n_hat + hyper.eps_root) + hyper.eps)
        if hyper.no_prox:
            param = hyper.decay(param, param, -hyper.lr) - hyper.lr * u
        else:
            # A proximal step divides: decay(1, γ) is 1 + γλ, and 1 where a mask
            # exempts.
            shrink = hyper.decay(jnp.ones_like(hyper.lr), hyper.lr)
            param = (param - hyper.lr * u) / shrink
        return param, {"m": m, "change": v, "n": n, "prev": grad}
