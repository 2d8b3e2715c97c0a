# SPDX-License-Identifier: Apache-2.0
"""Adam, and the two moments that its relatives keep, too."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, safe_sqrt, zeros
from ..hyperparameters._fields import (
    Betas,
    Number,
    argument,
    choice,
    decay_rate,
    flag,
    number,
    together,
)
from ..hyperparameters._hyper import Hyper
from ..porting._dialects import DIALECTS, PROGRAMS, Dialect, by_dialect


class Adam(Optimizer):
    r"""Adam, with L2 regularisation added to the gradient.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g'_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g'_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{m_t / (1 - \beta_1^t)}
            {\sqrt{v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}

    Raises:
        HyperparameterError: a number is out of its range.

    Source: Kingma & Ba 2015, Adam, algorithm 1.
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    _elementwise = True

    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon", "outside the root of the corrected moment")
    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    amsgrad: bool = flag(
        False, r"divide by the root of the largest :math:`\hat v` so far"
    )
    eps_root: Number = number(0.0, r"\epsilon_r", "inside the root")
    dialect: Dialect = choice("document", DIALECTS, PROGRAMS)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        return first_moments(param, hyper.amsgrad)

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        # Inside the gradient the penalty passes through both moments; see `AdamW` for a
        # decay that does not.
        grad = hyper.decay(grad, param)
        if hyper.dialect != "document":
            return by_dialect(grad, param, slots, hyper.without_decay(), step)
        direction, slots = adam_direction(
            grad, slots, hyper, step, hyper.eps_root, hyper.amsgrad
        )
        return param - hyper.lr * direction, slots


def first_moments(param: Array, amsgrad: bool = False) -> Slots:
    """Return zeros: m, v and with ``amsgrad`` v_max."""
    slots = {"m": zeros(param), "v": zeros(param, is_real=True)}
    return slots | ({"v_max": zeros(param, is_real=True)} if amsgrad else {})


def moments(grad: Array, m: Array, v: Array, hyper: Hyper) -> tuple[Any, Any]:
    """Return the running means of the gradient and of its square."""
    # Written as differences, β m + (1 - β) g has one product. Of two XLA fuses either
    # one with the sum, as the shape may be, and rounds otherwise.
    return (
        m + hyper.one_minus("beta1") * (grad - m),
        v + hyper.one_minus("beta2") * (abs2(grad) - v),
    )


def adam_direction(
    grad: Array,
    slots: Slots,
    hyper: Hyper,
    step: Array,
    eps_root: Array | float = 0.0,
    amsgrad: bool = False,
) -> tuple[Array, Slots]:
    r"""Return :math:`\hat m / (\sqrt{\hat v + \epsilon_r} + \epsilon)`, and slots."""
    m, v = moments(grad, slots["m"], slots["v"], hyper)
    new = {"m": m, "v": v}
    # Section 3: both moments start at 0, so their expectation is too small by 1 - β^t.
    m_hat = m / hyper.debias("beta1", step)
    v_hat = v / hyper.debias("beta2", step)
    # Reddi et al. 2018: the divisor never falls. The paper has no bias correction; as
    # in optax the maximum is that of the corrected moment.
    if amsgrad:
        v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
    return m_hat / (safe_sqrt(v_hat + eps_root) + hyper.eps), new
