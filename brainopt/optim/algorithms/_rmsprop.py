# SPDX-License-Identifier: Apache-2.0
"""RMSProp: steps divided by the root of a running mean of squares."""

from __future__ import annotations

from dataclasses import KW_ONLY

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..hyperparameters._fields import Number, argument, decay_rate, flag, number
from ..hyperparameters._hyper import Hyper


class RMSProp(Optimizer):
    r"""Gradient descent divided by a running root mean square.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) |g_t|^2 \\
        b_t &= \mu b_{t-1} + g_t / \sqrt{v_t - |\bar g_t|^2 + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma_t b_t

    with the running mean :math:`\bar g_t` only where ``centered``.

    Source: Tieleman & Hinton 2012, lecture 6.5; Graves 2013, Generating Sequences,
    equations 38-41, for ``centered``.
    """

    _elementwise = True

    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    epsilon: Number = number(1e-6, r"\epsilon")
    rho: Number = decay_rate(0.9, r"\rho")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    momentum: Number = number(0.0, r"\mu", range="[0, 1)", has_buffer=True)
    centered: bool = flag(False, "divide by the running standard deviation")
    eps_in_root: bool = flag(
        True, r"False puts :math:`\epsilon` outside the root, as torch does"
    )
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: v, with ``centered`` mean, with momentum a buffer."""
        slots = {"v": zeros(param, is_real=True)}
        slots |= {"mean": zeros(param)} if hyper.centered else {}
        return slots | ({} if hyper.is_off("momentum") else {"buffer": zeros(param)})

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        spread = v = hyper.rho * slots["v"] + hyper.one_minus("rho") * abs2(grad)
        new = {"v": v}
        if hyper.centered:
            new["mean"] = hyper.rho * slots["mean"] + hyper.one_minus("rho") * grad
            # Rounding may leave a variance below zero.
            spread = jnp.maximum(v - abs2(new["mean"]), 0)
        if hyper.eps_in_root:
            b = grad / jnp.sqrt(spread + hyper.epsilon)
        else:
            b = grad / (jnp.sqrt(spread) + hyper.epsilon)
        if not hyper.is_off("momentum"):
            b = new["buffer"] = hyper.momentum * slots["buffer"] + b
        return param - hyper.lr * b, new
