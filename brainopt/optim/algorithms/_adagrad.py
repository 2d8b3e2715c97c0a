# SPDX-License-Identifier: Apache-2.0
"""Adagrad: rates from the sum of squared gradients."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
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

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return the first sum of squares."""
        return {"s": zeros(param, is_real=True) + hyper.initial_accumulator_value}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its sum of squares after one step."""
        grad = hyper.decay(grad, param)
        s = slots["s"] + abs2(grad)
        lr = hyper.lr / (1 + (step - 1).astype(hyper.lr.dtype) * hyper.lr_decay)
        return param - lr * _over_root(grad, s, hyper), {"s": s}


def _over_root(grad: Any, s: Any, hyper: Hyper) -> Any:
    if hyper.eps_in_root:
        return grad / jnp.sqrt(s + hyper.epsilon)
    return grad / (jnp.sqrt(s) + hyper.epsilon)
