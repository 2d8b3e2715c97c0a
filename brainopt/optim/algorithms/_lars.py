# SPDX-License-Identifier: Apache-2.0
"""LARS: momentum with a rate for each variable."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._gradients import global_norm
from ..engine._tree import zeros
from ..settings._options import Common


class LARS(Optimizer):
    r"""Momentum with a rate for each variable.

    .. math::
        r &= \tau \|\theta\| / (\|g\| + \lambda \|\theta\| + \epsilon) \\
        m_t &= \mu m_{t-1} + \gamma_t r (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} - m_t

    with :math:`r = 1` where a norm is zero.

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        momentum: :math:`\mu` in [0, 1).
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        tc: :math:`\tau` in [0, inf), the trust coefficient.
        eps: :math:`\epsilon` in [0, inf).
        name: a display name.
        common: see `Common`.

    Source: You et al. 2017, Large Batch Training of Convolutional Networks, algorithm
    1.
    """

    ranges: ClassVar = {"momentum": "[0, 1)"}

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        momentum: Any = 0.9,
        weight_decay: Any = 1e-4,
        tc: Any = 1e-3,
        eps: Any = 1e-5,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"momentum": momentum, "weight_decay": weight_decay}
        super().__init__(
            lr, train_vars, name, {**numbers, "tc": tc, "eps": eps}, **common
        )

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return a momentum of zero."""
        return {"m": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its momentum after one step."""
        size, slope = global_norm(param), global_norm(grad)
        trust = hyper.tc * size / hyper.decay(slope + hyper.eps, size)
        trust = jnp.where((size > 0) & (slope > 0), trust, jnp.ones_like(trust))
        pull = hyper.decay(grad, param)
        m = hyper.momentum * slots["m"] + hyper.lr * trust * pull
        return param - m, {"m": m}
