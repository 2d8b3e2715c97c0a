# SPDX-License-Identifier: Apache-2.0
"""Adafactor: a second moment kept as rows and columns."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from .._hyperparameters import ANY, Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


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

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta2_decay: :math:`d` in (-inf, 0].
        eps: :math:`(\epsilon_1, \epsilon_2)` in [0, inf): the least second moment is
            :math:`\epsilon_1^2` (None: the precision of the dtype), the least size of
            a weight :math:`\epsilon_2`.
        clip_threshold: :math:`D` in (0, inf).
        weight_decay: :math:`\lambda` in [0, inf), as in AdamW.
        name: a display name.
        common: see `Common`.

    Source: Shazeer & Stern 2018, Adafactor, algorithms 4 and 5, without momentum, as
    torch has them.
    """

    ranges: ClassVar = {
        "beta2_decay": "(-inf, 0]",
        "clip_threshold": "(0, inf)",
        "eps1": ANY,
    }

    def __init__(
        self,
        lr: Any = 1e-2,
        train_vars: Any = None,
        beta2_decay: Any = -0.8,
        eps: tuple[Any, Any] = (None, 1e-3),
        clip_threshold: Any = 1.0,
        weight_decay: Any = 0.0,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"beta2_decay": beta2_decay, "clip_threshold": clip_threshold}
        numbers |= {"eps1": -1.0 if eps[0] is None else eps[0], "eps2": eps[1]}
        numbers["weight_decay"] = weight_decay
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: row and col, or v for fewer than two axes."""
        v = zeros(param, is_real=True)
        if param.ndim < 2:
            return {"v": v}
        return {
            "row": jnp.zeros_like(v.sum(axis=-1)),
            "col": jnp.zeros_like(v.sum(axis=-2)),
        }

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        time = step.astype(hyper.lr.dtype)
        new = time**hyper.beta2_decay
        square = abs2(grad)
        if grad.ndim < 2:
            means = {"v": square}
        else:
            means = {"row": square.mean(axis=-1), "col": square.mean(axis=-2)}
        slots = {k: slots[k] + new * (mean - slots[k]) for k, mean in means.items()}
        precision = jnp.finfo(grad.dtype).eps
        eps1 = jnp.where(hyper.eps1 < 0, precision, hyper.eps1)
        if grad.ndim < 2:
            v = slots["v"]
        else:
            row, col = slots["row"], slots["col"]
            scale = jnp.maximum(row.mean(axis=-1, keepdims=True), eps1)
            v = (row / scale)[..., :, None] * col[..., None, :]
        u = grad / jnp.sqrt(jnp.maximum(v, eps1 * eps1))
        u = u / jnp.maximum(1, _rms(u) / hyper.clip_threshold)
        size = jnp.maximum(hyper.eps2, _rms(param))
        rate = size * jnp.minimum(hyper.lr, 1 / jnp.sqrt(time))
        return hyper.decay(param, param, -hyper.lr) - rate * u, slots


def _rms(x: Any) -> Any:
    return jnp.sqrt(abs2(x).mean())
