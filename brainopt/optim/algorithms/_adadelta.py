# SPDX-License-Identifier: Apache-2.0
"""Adadelta: steps in the unit of the parameter."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


class Adadelta(Optimizer):
    r"""Adagrad with running means, and steps in the unit of the parameter.

    .. math::
        s_t &= \rho s_{t-1} + (1 - \rho) |g_t|^2 \\
        u_t &= g_t \sqrt{d_{t-1} + \epsilon} / \sqrt{s_t + \epsilon} \\
        d_t &= \rho d_{t-1} + (1 - \rho) |u_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t u_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        weight_decay: in [0, inf), the strength of the L2 penalty.
        epsilon: :math:`\epsilon` in [0, inf).
        rho: :math:`\rho` in [0, 1).
        name: a display name.
        common: see `Common`.

    Source: Zeiler 2012, ADADELTA, algorithm 1.
    """

    decays = ("rho",)

    def __init__(
        self,
        lr: Any = 1.0,
        train_vars: Any = None,
        weight_decay: Any = None,
        epsilon: Any = 1e-6,
        rho: Any = 0.95,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"weight_decay": weight_decay or 0.0, "epsilon": epsilon, "rho": rho}
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: the means of squared gradients and of squared steps."""
        return {"s": zeros(param, is_real=True), "d": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        s = hyper.rho * slots["s"] + hyper.one_minus("rho") * abs2(grad)
        size = jnp.sqrt(slots["d"] + hyper.epsilon) / jnp.sqrt(s + hyper.epsilon)
        u = size * grad
        d = hyper.rho * slots["d"] + hyper.one_minus("rho") * abs2(u)
        return param - hyper.lr * u, {"s": s, "d": d}
