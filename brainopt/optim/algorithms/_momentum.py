# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with a velocity, plain and Nesterov's; the rate is inside it."""

from __future__ import annotations

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..hyperparameters._fields import Number, argument, number
from ..hyperparameters._hyper import Hyper


class Momentum(Optimizer):
    r"""Gradient descent with momentum.

    .. math::
        v_t &= \mu v_{t-1} - \gamma_t (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} + v_t

    Source: Polyak 1964; Sutskever et al. 2013, equations 1 and 2.
    Differs: torch and optax (and `SGD` here) keep the learning rate outside the
    velocity, which is the same until the rate changes; brainpy shrinks the parameter
    by ``weight_decay`` itself.
    """

    _elementwise = True
    _squares = 0

    momentum: Number = number(0.9, r"\mu", range="[0, 1)")
    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return a velocity of zero."""
        return {"velocity": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its velocity after one step."""
        v = hyper.momentum * slots["velocity"] - hyper.lr * hyper.decay(grad, param)
        return param + v, {"velocity": v}


class MomentumNesterov(Optimizer):
    r"""Gradient descent with Nesterov's momentum.

    .. math::
        v_t &= \mu v_{t-1} - \gamma_t (g_t + \lambda \theta_{t-1}) \\
        \theta_t &= \theta_{t-1} + \mu v_t - \gamma_t (g_t + \lambda \theta_{t-1})

    Source: Sutskever et al. 2013, equations 3 and 4, at the point looked ahead to
    (Bengio et al. 2013, equation 7).
    """

    _elementwise = True
    _squares = 0

    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    momentum: Number = number(0.9, r"\mu", range="[0, 1)")
    display_name: str | None = argument(alias="name", default=None)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return a velocity of zero."""
        return {"velocity": zeros(param)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its velocity after one step."""
        # The variable holds the point looked ahead to, where gradients are taken. From
        # one such point to the next it is μ v - γ g (Bengio et al. 2013, equation 7).
        pull = hyper.lr * hyper.decay(grad, param)
        v = hyper.momentum * slots["velocity"] - pull
        return param + hyper.momentum * v - pull, {"velocity": v}
