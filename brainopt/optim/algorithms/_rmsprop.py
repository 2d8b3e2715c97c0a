# SPDX-License-Identifier: Apache-2.0
"""RMSProp: steps divided by the root of a running mean of squares."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._groups import is_off
from ..settings._options import Common


class RMSProp(Optimizer):
    r"""Gradient descent divided by a running root mean square.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) |g_t|^2 \\
        b_t &= \mu b_{t-1} + g_t / \sqrt{v_t - |\bar g_t|^2 + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma_t b_t

    with the running mean :math:`\bar g_t` only where ``centered``.

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        weight_decay: in [0, inf), the strength of the L2 penalty.
        epsilon: :math:`\epsilon` in [0, inf).
        rho: :math:`\rho` in [0, 1).
        name: a display name.
        momentum: :math:`\mu` in [0, 1).
        centered: divide by the running standard deviation.
        eps_in_root: False puts :math:`\epsilon` outside the root, as torch does.
        common: see `Common`.

    Source: Tieleman & Hinton 2012, lecture 6.5; Graves 2013, Generating Sequences,
    equations 38-41, for ``centered``.
    """

    decays = ("rho",)
    ranges: ClassVar = {"momentum": "[0, 1)"}

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        weight_decay: Any = None,
        epsilon: Any = 1e-6,
        rho: Any = 0.9,
        name: str | None = None,
        *,
        momentum: Any = 0.0,
        centered: bool = False,
        eps_in_root: bool = True,
        **common: Unpack[Common],
    ):
        numbers = {"weight_decay": weight_decay or 0.0, "epsilon": epsilon, "rho": rho}
        numbers["momentum"] = momentum
        plain = is_off(momentum)
        options = {"centered": bool(centered), "eps_in_root": bool(eps_in_root)}
        options["no_momentum"] = plain
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: v, with ``centered`` mean, with momentum b."""
        slots = {"v": zeros(param, is_real=True)}
        slots |= {"mean": zeros(param)} if hyper.centered else {}
        return slots | ({} if hyper.no_momentum else {"b": zeros(param)})

    def rule(self, grad, param, slots, hyper, step):
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
        if not hyper.no_momentum:
            b = new["b"] = hyper.momentum * slots["b"] + b
        return param - hyper.lr * b, new
