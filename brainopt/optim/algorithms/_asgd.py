# SPDX-License-Identifier: Apache-2.0
"""ASGD: gradient descent whose average is the result."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from .._swapping import Averaged
from ..engine._precision import wide
from ..hyperparameters._fields import Number, Rate, argument, number, rate
from ..hyperparameters._hyper import Hyper


class ASGD(Averaged, Optimizer):
    r"""Averaged gradient descent; ``with opt.swapped():`` evaluates the average.

    .. math::
        \eta_t &= \gamma_t / (1 + l \gamma_t (t - 1))^\alpha \\
        \theta_t &= (1 - l \eta_t) \theta_{t-1} - \eta_t (g_t + \lambda \theta_{t-1}) \\
        a_t &= a_{t-1} + (\theta_t - a_{t-1}) / \max(1, t - 1 - t_0)

    Source: Polyak & Juditsky 1992, Acceleration of Stochastic Approximation, as torch
    has it.
    """

    _elementwise = True
    _squares = 0

    lr: Rate = rate(default=1e-2)
    lambd: Number = number(1e-4, "l", "the decay")
    alpha: Number = number(0.75, r"\alpha", "how fast the rate falls")
    t0: Number = number(1e6, "t_0", "where averaging starts")
    weight_decay: Number = number(0.0, r"\lambda", "an L2 penalty")
    display_name: str | None = argument(alias="name", default=None)

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return the first average, the parameter itself."""
        return {"average": jnp.array(param, wide(param.dtype))}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its average after one step."""
        before = (step - 1).astype(hyper.lr.dtype)
        eta = hyper.lr / (1 + hyper.lambd * hyper.lr * before) ** hyper.alpha
        grad = hyper.decay(grad, param)
        param = param * (1 - hyper.lambd * eta) - eta * grad
        # Up to t₀ the share is 1, and the average is the parameter itself.
        share = 1 / jnp.maximum(1, before - hyper.t0)
        average = slots["average"]
        return param, {"average": average + (param - average) * share}

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        return {path: slots["average"].value for path, slots in self.slots.items()}
