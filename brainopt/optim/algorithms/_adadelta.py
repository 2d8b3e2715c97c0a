# SPDX-License-Identifier: Apache-2.0
"""Adadelta: steps in the unit of the parameter."""

from __future__ import annotations

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..hyperparameters._fields import Number, Rate, argument, decay_rate, number, rate
from ..hyperparameters._hyper import Hyper


class Adadelta(Optimizer):
    r"""Adagrad with running means, and steps in the unit of the parameter.

    .. math::
        s_t &= \rho s_{t-1} + (1 - \rho) |g_t|^2 \\
        u_t &= g_t \sqrt{d_{t-1} + \epsilon} / \sqrt{s_t + \epsilon} \\
        d_t &= \rho d_{t-1} + (1 - \rho) |u_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t u_t

    Source: Zeiler 2012, ADADELTA, algorithm 1.
    """

    _elementwise = True

    lr: Rate = rate(default=1.0)
    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    epsilon: Number = number(1e-6, r"\epsilon")
    rho: Number = decay_rate(0.95, r"\rho")
    display_name: str | None = argument(alias="name", default=None)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: the means of squared gradients and of squared steps."""
        return {"v": zeros(param, is_real=True), "d": zeros(param, is_real=True)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        s = hyper.rho * slots["v"] + hyper.one_minus("rho") * abs2(grad)
        # Algorithm 1, line 5, with the mean of earlier steps: this one is not known
        # yet.
        size = jnp.sqrt(slots["d"] + hyper.epsilon) / jnp.sqrt(s + hyper.epsilon)
        u = size * grad
        d = hyper.rho * slots["d"] + hyper.one_minus("rho") * abs2(u)
        return param - hyper.lr * u, {"v": s, "d": d}
