# SPDX-License-Identifier: Apache-2.0
"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..settings._options import Common


class Lion(Optimizer):
    r"""Steps of equal size in every element, along the sign of a momentum.

    .. math::
        \theta_t &= \theta_{t-1} - \gamma_t \left(
            \operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1) g_t)
            + \lambda \theta_{t-1} \right) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), how the step mixes.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the momentum.
        weight_decay: :math:`\lambda` in [0, inf), as in AdamW.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        common: see `Common`.

    Source: Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, program 1.
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        lr: Any = 1e-4,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.99,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return a momentum of zero."""
        return {"m": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its momentum after one step."""
        u = jnp.sign(hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad)
        m = hyper.beta2 * slots["m"] + hyper.one_minus("beta2") * grad
        return param - hyper.lr * hyper.decay(u, param), {"m": m}
