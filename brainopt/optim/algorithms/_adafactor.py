# SPDX-License-Identifier: Apache-2.0
"""Adafactor: a second moment kept as rows and columns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..hyperparameters._fields import (
    ANY,
    Number,
    Pair,
    Rate,
    argument,
    number,
    rate,
    together,
)
from ..hyperparameters._hyper import Hyper

_EPS = (
    r":math:`\epsilon_1, \epsilon_2` in [0, inf): the least second moment is "
    r":math:`\epsilon_1^2` (None: the precision of the dtype), the least size of a "
    r"weight :math:`\epsilon_2`"
)


class Adafactor(Optimizer):
    r"""Adaptive steps in units of the weights, with little memory.

    For two axes or more the second moment is the product of a row and a column vector
    over the last two; for fewer it is kept whole.

    .. math::
        \beta_t &= 1 - t^{d} \\
        R_t &= \beta_t R_{t-1} + (1 - \beta_t) \operatorname{mean}_{cols} |g_t|^2,
            \quad C_t \text{ alike} \\
        u_t &= g_t / \sqrt{R_t C_t / \operatorname{mean}(R_t)} \\
        \theta_t &= (1 - \gamma \lambda) \theta_{t-1}
            - \max(\epsilon_2, \mathrm{rms}(\theta_{t-1})) \min(\gamma, 1 / \sqrt t)
            \, u_t / \max(1, \mathrm{rms}(u_t) / D)

    Source: Shazeer & Stern 2018, Adafactor, algorithms 4 and 5, without momentum, as
    torch has them.
    """

    _needs = "the axes of each variable"
    _squares = 2**32

    lr: Rate = rate(default=1e-2)
    beta2_decay: Number = number(-0.8, "d", range="(-inf, 0]")
    eps1 = number(range=ANY, none=-1.0)
    eps2 = number()
    eps: Pair = together("eps1", "eps2", default=(None, 1e-3), doc=_EPS)
    clip_threshold: Number = number(1.0, "D", range="(0, inf)")
    weight_decay: Number = number(0.0, r"\lambda", "as in AdamW")
    display_name: str | None = argument(alias="name", default=None)

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: row and col, or v for fewer than two axes."""
        v = zeros(param, is_real=True)
        if param.ndim < 2:
            return {"v": v}
        return {
            "row": jnp.zeros_like(v.sum(axis=-1)),
            "col": jnp.zeros_like(v.sum(axis=-2)),
        }

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        # t^d = 1 - β_t (section 7), so β_1 = 0 and no bias correction is needed.
        time = step.astype(hyper.lr.dtype)
        new = time**hyper.beta2_decay
        square = abs2(grad)
        if grad.ndim < 2:
            means = {"v": square}
        else:
            means = {"row": square.mean(axis=-1), "col": square.mean(axis=-2)}
        slots = {k: slots[k] + new * (mean - slots[k]) for k, mean in means.items()}
        # Numbers are arrays and cannot be None, so the field keeps -1 for it.
        precision = jnp.finfo(grad.dtype).eps
        eps1 = jnp.where(hyper.eps1 < 0, precision, hyper.eps1)
        if grad.ndim < 2:
            v = slots["v"]
        else:
            # Section 3: V = R C / (1ᵀR). With means in the place of sums the factors
            # cancel, if that in the denominator is a mean too.
            row, col = slots["row"], slots["col"]
            scale = jnp.maximum(row.mean(axis=-1, keepdims=True), eps1)
            v = (row / scale)[..., :, None] * col[..., None, :]
        u = grad / jnp.sqrt(jnp.maximum(v, eps1 * eps1))
        # Update clipping, then the relative step size (sections 6 and 8).
        u = u / jnp.maximum(1, _rms(u) / hyper.clip_threshold)
        size = jnp.maximum(hyper.eps2, _rms(param))
        rate = size * jnp.minimum(hyper.lr, 1 / jnp.sqrt(time))
        return hyper.decay(param, param, -hyper.lr) - rate * u, slots


def _rms(x: Any) -> Any:
    return jnp.sqrt(abs2(x).mean())
