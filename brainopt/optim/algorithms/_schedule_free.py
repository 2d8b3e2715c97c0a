# SPDX-License-Identifier: Apache-2.0
"""Schedule-free AdamW: an average in the place of a schedule."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._averages import Averaged
from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._precision import wide
from ..engine._tree import abs2, named, zeros
from ..settings._options import Common


class ScheduleFreeAdamW(Averaged, Optimizer):
    r"""AdamW that needs no falling rate; ``with opt.swapped():`` evaluates the average.

    The variables hold :math:`y`, where gradients are taken.

    .. math::
        z_t &= z_{t-1} - \gamma_t \left(
            g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda y_{t-1} \right) \\
        c_t &= \gamma_{max}^p / \sum_{i \le t} \gamma_{max,i}^p \\
        x_t &= (1 - c_t) x_{t-1} + c_t z_t \\
        y_t &= (1 - \beta_1) z_t + \beta_1 x_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step; a warm-up helps.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in (0, 1), how far y lies towards the average.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: :math:`\lambda` in [0, inf), at y.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        weight_lr_power: :math:`p` in [0, inf).
        common: see `Common`.

    Source: Defazio et al. 2024, The Road Less Scheduled, algorithm 1.
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        lr: Any = 2.5e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        weight_lr_power: Any = 2.0,
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
        numbers |= {"weight_decay": weight_decay, "weight_lr_power": weight_lr_power}
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return z, the second moment, and the rates that weigh the average."""
        v = zeros(param, is_real=True)
        rates = {name: jnp.zeros((), v.dtype) for name in ("most", "total")}
        return {"z": jnp.array(param, wide(param.dtype)), "v": v, **rates}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        root = jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps
        average = _average(param, slots["z"], hyper.beta1, hyper.one_minus("beta1"))
        z = slots["z"] - hyper.lr * hyper.decay(grad / root, param)
        most = jnp.maximum(slots["most"], hyper.lr)
        share = most**hyper.weight_lr_power
        total = slots["total"] + share
        share = jnp.where(total > 0, share / jnp.where(total > 0, total, 1), 0)
        average = (1 - share) * average + share * z
        param = hyper.one_minus("beta1") * z + hyper.beta1 * average
        return param, {"z": z, "v": v, "most": most, "total": total}

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        found = {}
        for path, leaf in named(self._trained.values()):
            z, beta1 = self.slots[path]["z"].value, self.beta1
            y = leaf.astype(z.dtype)
            found[path] = _average(y, z, beta1.astype(z.dtype), 1 - beta1)
        return found


def _average(y: Any, z: Any, beta1: Any, rest: Any) -> Any:
    return (y - rest * z) / beta1
