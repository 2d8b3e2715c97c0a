# SPDX-License-Identifier: Apache-2.0
"""Adagrad: rates from the sum of squared gradients."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..hyperparameters._fields import Number, argument, flag, number
from ..hyperparameters._hyper import Hyper


class Adagrad(Optimizer):
    r"""Gradient descent with a rate for each element, falling with its gradients.

    .. math::
        s_t &= s_{t-1} + |g_t|^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma_t}{1 + (t - 1) d}
            \frac{g_t}{\sqrt{s_t + \epsilon}}

    Source: Duchi et al. 2011, Adaptive Subgradient Methods, figure 1.
    """

    _elementwise = True
    _squares = 2**32

    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    epsilon: Number = number(1e-6, r"\epsilon")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    lr_decay: Number = number(0.0, "d")
    initial_accumulator_value: Number = number(0.0, "s_0")
    eps_in_root: bool = flag(
        True, r"False puts :math:`\epsilon` outside the root, as torch does"
    )
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return the first sum of squares."""
        return {"s": zeros(param, is_real=True) + hyper.initial_accumulator_value}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its sum of squares after one step."""
        grad = hyper.decay(grad, param)
        s = slots["s"] + abs2(grad)
        # The fall of the rate is torch's; the paper has none beside that of the sum.
        lr = hyper.lr / (1 + (step - 1).astype(hyper.lr.dtype) * hyper.lr_decay)
        return param - lr * _over_root(grad, s, hyper), {"s": s}


def _over_root(grad: Any, s: Any, hyper: Hyper) -> Any:
    if hyper.eps_in_root:
        return grad / jnp.sqrt(s + hyper.epsilon)
    return grad / (jnp.sqrt(s) + hyper.epsilon)
