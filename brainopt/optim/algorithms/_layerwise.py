# SPDX-License-Identifier: Apache-2.0
"""LARS and LAMB: a rate for each variable, by the ratio of two norms."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._gradients import global_norm
from ..engine._squares import shrunk, times
from ..engine._tree import zeros
from ..hyperparameters._fields import (
    Betas,
    Number,
    argument,
    decay_rate,
    number,
    together,
)
from ..hyperparameters._hyper import Hyper
from ._adam import adam_direction, first_moments


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

    _needs = "the norm of each variable"
    _squares = 0

    momentum: Number = number(0.9, r"\mu", range="[0, 1)")
    weight_decay: Number = number(1e-4, r"\lambda", "an L2 penalty")
    tc: Number = number(1e-3, r"\tau", "the trust coefficient")
    eps: Number = number(1e-5, r"\epsilon")
    display_name: str | None = argument(alias="name", default=None)

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return a velocity of zero."""
        return {"velocity": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its velocity after one step."""
        # All that is divided and all that divides is times `by`, which is 1 for any
        # gradient whose squares are finite.
        grad, by = shrunk(grad)
        size, slope = global_norm(param), global_norm(grad)
        # decay(a, b) is a + λ b, and a where a mask exempts: here ‖g‖ + ε + λ‖θ‖.
        trust = hyper.tc * size / hyper.decay(slope + by * hyper.eps, by * size)
        trust = jnp.where((size > 0) & (slope > 0), trust, 1 / by)
        pull = hyper.decay(grad, times(param, by))
        # The rate is inside the velocity, as in algorithm 1: what was collected at an
        # earlier rate keeps it.
        velocity = hyper.momentum * slots["velocity"] - hyper.lr * trust * pull
        return param + velocity, {"velocity": velocity}


class Lamb(Optimizer):
    r"""Adam with a rate for each variable.

    .. math::
        u_t &= \hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{\|\theta_{t-1}\|}{\|u_t\|} u_t

    with a ratio of 1 where a norm is zero.

    Source: You et al. 2020, Large Batch Optimization for Deep Learning, algorithm 2.
    """

    _needs = "the norm of each variable"

    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-6, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "decay of the parameter", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m and v."""
        return first_moments(param)

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        u, slots = adam_direction(grad, slots, hyper, step)
        u = hyper.decay(u, param)
        size, length = global_norm(param), global_norm(u)
        # The function φ of the paper is the identity. The divisor is replaced too: the
        # branch that `where` does not take must have a finite derivative.
        fine = (size > 0) & (length > 0)
        ratio = jnp.where(fine, size / jnp.where(fine, length, 1), jnp.ones_like(size))
        return param - hyper.lr * ratio * u, slots
