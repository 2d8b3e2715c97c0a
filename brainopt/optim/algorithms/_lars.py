# SPDX-License-Identifier: Apache-2.0
"""LARS: momentum with a rate for each variable."""

from __future__ import annotations

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._fields import Number, argument, number
from .._hyper import Hyper
from .._optimizer import Optimizer
from ..engine._gradients import global_norm
from ..engine._tree import zeros


class LARS(Optimizer):
    r"""Momentum with a rate for each variable.

    .. math::
        r &= \tau \|\theta\| / (\|g\| + \lambda \|\theta\| + \epsilon) \\
        m_t &= \mu m_{t-1} + \gamma_t r (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} - m_t

    with :math:`r = 1` where a norm is zero.

    Source: You et al. 2017, Large Batch Training of Convolutional Networks, algorithm
    1.
    """

    momentum: Number = number(0.9, r"\mu", range="[0, 1)")
    weight_decay: Number = number(1e-4, r"\lambda", "an L2 penalty")
    tc: Number = number(1e-3, r"\tau", "the trust coefficient")
    eps: Number = number(1e-5, r"\epsilon")
    display_name: str | None = argument(alias="name", default=None)

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return a momentum of zero."""
        return {"m": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its momentum after one step."""
        size, slope = global_norm(param), global_norm(grad)
        trust = hyper.tc * size / hyper.decay(slope + hyper.eps, size)
        trust = jnp.where((size > 0) & (slope > 0), trust, jnp.ones_like(trust))
        pull = hyper.decay(grad, param)
        m = hyper.momentum * slots["m"] + hyper.lr * trust * pull
        return param - m, {"m": m}
