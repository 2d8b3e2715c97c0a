# SPDX-License-Identifier: Apache-2.0
"""Adan: Nesterov momentum by the differences of gradients."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from ...errors import HyperparameterError, message
from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


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

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        betas: :math:`\beta_1, \beta_2, \beta_3` in (0, 1], as in the paper and in
            brainpy: small; optax takes 1 - β.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: :math:`\lambda` in [0, inf).
        no_prox: decay as AdamW does, by :math:`1 - \gamma_t \lambda` before the step.
        name: a display name.
        eps_root: in [0, inf), added inside the root.
        common: see `Common`.

    Source: Xie et al. 2022, Adan, algorithm 1.
    Differs: bias correction, as in the authors' program; optax multiplies the
    differences by :math:`\beta_2`, not by :math:`1 - \beta_2`.
    """

    ranges: ClassVar = dict.fromkeys(("beta1", "beta2", "beta3"), "(0, 1]")

    def __init__(
        self,
        lr: Any = 1e-3,
        train_vars: Any = None,
        betas: tuple[Any, Any, Any] = (0.02, 0.08, 0.01),
        eps: Any = 1e-8,
        weight_decay: Any = 0.02,
        no_prox: bool = False,
        name: str | None = None,
        *,
        eps_root: Any = 0.0,
        **common: Unpack[Common],
    ):
        if len(betas) != 3:
            raise HyperparameterError(message(f"betas={betas!r} are not three."))
        numbers = dict(zip(("beta1", "beta2", "beta3"), betas, strict=True))
        numbers |= {"eps": eps, "eps_root": eps_root, "weight_decay": weight_decay}
        options = {"no_prox": bool(no_prox)}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m, v, n and the gradient before."""
        slots = {name: zeros(param) for name in ("m", "v", "prev")}
        return slots | {"n": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        b1, b2, b3 = hyper.beta1, hyper.beta2, hyper.beta3
        change = jnp.where(step == 1, jnp.zeros_like(grad), grad - slots["prev"])
        m = (1 - b1) * slots["m"] + b1 * grad
        v = (1 - b2) * slots["v"] + b2 * change
        n = (1 - b3) * slots["n"] + b3 * abs2(grad + (1 - b2) * change)
        m_hat, v_hat, n_hat = (
            x / -jnp.expm1(step.astype(b.dtype) * jnp.log1p(-b))
            for x, b in ((m, b1), (v, b2), (n, b3))
        )
        u = (m_hat + (1 - b2) * v_hat) / (jnp.sqrt(n_hat + hyper.eps_root) + hyper.eps)
        if hyper.no_prox:
            param = hyper.decay(param, param, -hyper.lr) - hyper.lr * u
        else:
            shrink = hyper.decay(jnp.ones_like(hyper.lr), hyper.lr)
            param = (param - hyper.lr * u) / shrink
        return param, {"m": m, "v": v, "n": n, "prev": grad}
