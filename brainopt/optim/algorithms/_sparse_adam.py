# SPDX-License-Identifier: Apache-2.0
"""Adam for large tables of which a step touches a few rows."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._rows import Rows
from ..engine._tree import safe_sqrt
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
from ._adam import first_moments, moments


class SparseAdam(Optimizer):
    r"""Adam that steps only the rows that have a gradient, and only their moments.

    The rule is that of `Adam` without weight decay; rows without a gradient keep value
    and moments. A gradient is a `Rows`, a ``jax.experimental.sparse.BCOO`` that is
    sparse in its first axis, or an array, whose rows of zeros count as absent.

    Source: Kingma & Ba 2015, Adam, algorithm 1, masked as torch's SparseAdam does; the
    step counts for all rows, so bias correction is that of the table.
    Differs: torch adds eps to the root of the uncorrected moment.
    """

    _needs = "the rows of each variable"

    lr: Rate = rate(default=1e-3)
    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")

    _takes_rows = True
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m and v."""
        return first_moments(param)

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if isinstance(grad, Rows):
            return _step_rows(grad, param, slots, hyper, step)
        change, m, v = _adam(grad, slots["m"], slots["v"], hyper, step)
        # A dense gradient costs a whole step; the result is that of the rows alone.
        axes = tuple(range(1, grad.ndim))
        touched = (grad != 0).any(axis=axes, keepdims=True) if axes else grad != 0
        old = param, slots["m"], slots["v"]
        new = param - change, m, v
        param, m, v = (jnp.where(touched, a, b) for a, b in zip(new, old, strict=True))
        return param, {"m": m, "v": v}


def _step_rows(rows: Rows, param, slots, hyper, step) -> tuple[Any, dict[str, Any]]:
    # The padding index is no row: reading it clamps, writing it is dropped.
    at = rows.indices
    change, m, v = _adam(rows.values, slots["m"][at], slots["v"][at], hyper, step)
    return param.at[at].add(-change, mode="drop"), {
        "m": slots["m"].at[at].set(m, mode="drop"),
        "v": slots["v"].at[at].set(v, mode="drop"),
    }


def _adam(grad: Any, m: Any, v: Any, hyper: Hyper, step: Any) -> tuple[Any, Any, Any]:
    m, v = moments(grad, m, v, hyper)
    root = safe_sqrt(v / hyper.debias("beta2", step)) + hyper.eps
    return hyper.lr * (m / hyper.debias("beta1", step)) / root, m, v
