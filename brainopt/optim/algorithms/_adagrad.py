# SPDX-License-Identifier: Apache-2.0
"""Adagrad and Adadelta: rates from the sum or the mean of squared gradients."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import View
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


class Adagrad(Optimizer):
    r"""Gradient descent with a rate for each element, falling with its gradients.

    .. math::
        s_t &= s_{t-1} + |g_t|^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t}{1 + (t - 1) d}
            \frac{g_t}{\sqrt{s_t + \epsilon}}

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        weight_decay: in [0, inf), the strength of the L2 penalty.
        epsilon: :math:`\epsilon` in [0, inf).
        name: a display name.
        lr_decay: :math:`d` in [0, inf).
        initial_accumulator_value: :math:`s_0` in [0, inf).
        eps_in_root: False puts :math:`\epsilon` outside the root, as torch does.
        common: see `Common`.

    Source: Duchi et al. 2011, Adaptive Subgradient Methods, figure 1.
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        weight_decay: Any = None,
        epsilon: Any = 1e-6,
        name: str | None = None,
        *,
        lr_decay: Any = 0.0,
        initial_accumulator_value: Any = 0.0,
        eps_in_root: bool = True,
        **common: Unpack[Common],
    ):
        numbers = {"weight_decay": weight_decay or 0.0, "epsilon": epsilon}
        numbers["lr_decay"] = lr_decay
        numbers["initial_accumulator_value"] = initial_accumulator_value
        options = {"eps_in_root": bool(eps_in_root)}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: View) -> dict[str, Any]:
        """Return the first sum of squares."""
        return {"s": zeros(param, is_real=True) + hyper.initial_accumulator_value}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its sum of squares after one step."""
        grad = hyper.decay(grad, param)
        s = slots["s"] + abs2(grad)
        lr = hyper.lr / (1 + (step - 1).astype(hyper.lr.dtype) * hyper.lr_decay)
        return param - lr * _over_root(grad, s, hyper), {"s": s}


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

    def init_slots(self, param: Any, hyper: View) -> dict[str, Any]:
        """Return zeros: the means of squared gradients and of squared steps."""
        return {"s": zeros(param, is_real=True), "d": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        s = hyper.rho * slots["s"] + hyper.rest("rho") * abs2(grad)
        size = jnp.sqrt(slots["d"] + hyper.epsilon) / jnp.sqrt(s + hyper.epsilon)
        u = size * grad
        d = hyper.rho * slots["d"] + hyper.rest("rho") * abs2(u)
        return param - hyper.lr * u, {"s": s, "d": d}


def _over_root(grad: Any, s: Any, hyper: View) -> Any:
    if hyper.eps_in_root:
        return grad / jnp.sqrt(s + hyper.epsilon)
    return grad / (jnp.sqrt(s) + hyper.epsilon)
