# SPDX-License-Identifier: Apache-2.0
"""Schedule-free AdamW: an average instead of a schedule."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from .._swapping import Averaged, refuse_state
from ..engine._precision import wide
from ..engine._tree import abs2, named, safe_sqrt, zeros
from ..hyperparameters._fields import (
    Betas,
    Number,
    Rate,
    argument,
    decay_rate,
    number,
    rate,
    together,
)
from ..hyperparameters._hyper import Hyper


class ScheduleFreeAdamW(Averaged, Optimizer):
    r"""AdamW that needs no falling rate; ``with opt.swapped():`` evaluates the average.

    The variables hold :math:`y`, where gradients are taken.

    .. math::
        z_t &= z_{t-1} - \gamma_t \left(
            g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda y_{t-1} \right) \\
        c_t &= \gamma_{max}^p / \sum_{i \le t} \gamma_{max,i}^p \\
        x_t &= (1 - c_t) x_{t-1} + c_t z_t \\
        y_t &= (1 - \beta_1) z_t + \beta_1 x_t

    Source: Defazio et al. 2024, The Road Less Scheduled, algorithm 1.
    """

    _needs = "numbers for each variable, which weigh its average"

    lr: Rate = rate(default=2.5e-3)
    beta1: Number = decay_rate(
        0.9, r"\beta_1", "how far y lies towards the average, above 0"
    )
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon")
    weight_decay: Number = number(0.0, r"\lambda", "at y")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    weight_lr_power: Number = number(2.0, "p")

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return z, the second moment, the rates that weigh the average, and β₁."""
        v = zeros(param, is_real=True)
        rates = {name: jnp.zeros((), v.dtype) for name in ("most", "total")}
        z = jnp.array(param, wide(param.dtype))
        return {"z": z, "v": v, **rates, "beta1": jnp.array(hyper.beta1, v.dtype)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        root = safe_sqrt(v / hyper.debias("beta2", step)) + hyper.eps
        # x is not stored: y = (1 - β₁) z + β₁ x gives it from y and z, which saves an
        # array for each parameter. From z as it was before this step, and from the
        # β₁ of that step: a new one changes y, never the average.
        average = _average(param, slots["z"], slots["beta1"])
        z = slots["z"] - hyper.lr * hyper.decay(grad / root, param)
        most = jnp.maximum(slots["most"], hyper.lr)
        share = most**hyper.weight_lr_power
        total = slots["total"] + share
        # A warm-up that starts at rate 0 has no weights yet.
        share = jnp.where(total > 0, share / jnp.where(total > 0, total, 1), 0)
        average = (1 - share) * average + share * z
        # 1 - β₁ as in `_average`: another rounding would move the average for ever.
        beta1 = hyper.beta1
        param = (1 - beta1) * z + beta1 * average
        sums = {"most": most, "total": total, "beta1": beta1}
        return param, {"z": z, "v": v, **sums}

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``.

        Raises:
            StateDictError: the variables hold other values now, see `swapped`.
        """
        refuse_state(type(self).__name__, self._trained)
        found = {}
        for path, leaf in named(self._trained.values()):
            slots = self.slots[path]
            z = slots["z"].value
            found[path] = _average(leaf.astype(z.dtype), z, slots["beta1"].value)
        return found


def _average(y: Any, z: Any, beta1: Any) -> Any:
    return (y - (1 - beta1) * z) / beta1
