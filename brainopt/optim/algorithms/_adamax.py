# SPDX-License-Identifier: Apache-2.0
"""Adamax: Adam with the maximum norm."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..settings._options import Common


class Adamax(Optimizer):
    r"""Adam with the largest gradient so far in the place of the second moment.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t}{1 - \beta_1^t} m_t / u_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf), the strength of the L2 penalty.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        common: see `Common`.

    Source: Kingma & Ba 2015, Adam, algorithm 2, with :math:`\epsilon` as torch has it.
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        lr: Any = 2e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
        numbers["weight_decay"] = weight_decay
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m and u."""
        return {"m": zeros(param), "u": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        u = jnp.maximum(hyper.beta2 * slots["u"], jnp.abs(grad) + hyper.eps)
        lr = hyper.lr / hyper.debias("beta1", step)
        return param - lr * m / u, {"m": m, "u": u}
