# SPDX-License-Identifier: Apache-2.0
"""LAMB: Adam with a rate for each variable."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from .._fields import Betas, Number, argument, decay_rate, number, together
from .._hyper import Hyper
from .._optimizer import Optimizer
from ..engine._gradients import global_norm
from ._moments import adam_direction, first_moments


class Lamb(Optimizer):
    r"""Adam with a rate for each variable.

    .. math::
        u_t &= \hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{\|\theta_{t-1}\|}{\|u_t\|} u_t

    with a ratio of 1 where a norm is zero.

    Source: You et al. 2020, Large Batch Optimization for Deep Learning, algorithm 2.
    """

    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-6, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "decay of the parameter", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m and v."""
        return first_moments(param)

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        u, slots = adam_direction(grad, slots, hyper, step)
        u = hyper.decay(u, param)
        size, length = global_norm(param), global_norm(u)
        fine = (size > 0) & (length > 0)
        ratio = jnp.where(fine, size / jnp.where(fine, length, 1), jnp.ones_like(size))
        return param - hyper.lr * ratio * u, slots
