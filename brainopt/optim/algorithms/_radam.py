# SPDX-License-Identifier: Apache-2.0
"""RAdam: Adam that waits until its second moment can be trusted."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


class RAdam(Optimizer):
    r"""Adam, rectified while the second moment has seen few gradients.

    .. math::
        \rho_\infty &= 2 / (1 - \beta_2) - 1, \quad
        \rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}
            {(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}} \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t \cdot
            (r_t / (\sqrt{\hat v_t} + \epsilon) \text{ if } \rho_t > 5 \text{ else } 1)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf).
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        decoupled_weight_decay: decay the parameter as AdamW does, not the gradient.
        common: see `Common`.

    Source: Liu et al. 2020, On the Variance of the Adaptive Learning Rate, algorithm 2.
    Differs: the threshold is 5, as in torch and optax (the paper: 4); torch puts
    :math:`\epsilon` on the root of the uncorrected moment.
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        lr: Any = 1e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
        numbers["weight_decay"] = weight_decay
        options = {"decoupled": bool(decoupled_weight_decay)}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m and v."""
        return {"m": zeros(param), "v": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        if hyper.decoupled:
            param = hyper.decay(param, param, -hyper.lr)
        else:
            grad = hyper.decay(grad, param)
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        m_hat = m / hyper.debias("beta1", step)
        seen = hyper.debias("beta2", step)
        most = 2 / hyper.one_minus("beta2") - 1
        # ρ∞ - 2 t β^t / (1 - β^t) cancels early on, harmlessly: it is below 5 there.
        rho = most - 2 * step.astype(seen.dtype) * (1 - seen) / seen
        sure = rho > 5
        rho = jnp.where(sure, rho, 6.0)
        r = ((rho - 4) * (rho - 2) * most) / ((most - 4) * (most - 2) * rho)
        adapted = m_hat * jnp.sqrt(r) / (jnp.sqrt(v / seen) + hyper.eps)
        along = jnp.where(sure, adapted, m_hat)
        return param - hyper.lr * along, {"m": m, "v": v}
