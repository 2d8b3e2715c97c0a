# SPDX-License-Identifier: Apache-2.0
"""Yogi: Adam whose second moment cannot fall fast."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from ..engine._tree import abs2
from ..settings._options import Common
from ._moments import Moments


class Yogi(Moments):
    r"""Adam whose second moment cannot fall fast.

    .. math::
        v_t &= v_{t-1} - (1 - \beta_2)
            \operatorname{sign}(v_{t-1} - |g_t|^2) |g_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf), as in AdamW.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        initial_accumulator_value: :math:`m_0` and :math:`v_0` in [0, inf).
        common: see `Common`.

    Source: Zaheer et al. 2018, Adaptive Methods for Nonconvex Optimization, algorithm
    2.
    Differs: bias correction and the first values, as optax has them.
    """

    def __init__(
        self,
        lr: Any = 1e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-3,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        initial_accumulator_value: Any = 1e-6,
        **common: Unpack[Common],
    ):
        self._start = float(initial_accumulator_value)
        betas = pair(betas, beta1, beta2)
        super().__init__(lr, train_vars, name, betas, eps, weight_decay, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return the first moments."""
        slots = super().init_slots(param, hyper)
        return {name: slot + self._start for name, slot in slots.items()}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        square = abs2(grad)
        v = slots["v"]
        v = v - hyper.one_minus("beta2") * jnp.sign(v - square) * square
        u = m / hyper.debias("beta1", step)
        u = u / (jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps)
        return param - hyper.lr * hyper.decay(u, param), {"m": m, "v": v}
