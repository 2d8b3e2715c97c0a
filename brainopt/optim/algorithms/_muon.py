# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum made orthogonal, for weight matrices."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, Literal, get_args

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._squares import bounded, shrunk
from ..engine._tree import abs2, safe_sqrt, zeros
from ..hyperparameters._fields import (
    Number,
    Rate,
    argument,
    choice,
    count,
    decay_rate,
    flag,
    number,
    option,
    rate,
)
from ..hyperparameters._hyper import Hyper

_QUINTIC = (3.4445, -4.775, 2.0315)

Adjustment = Literal["original", "match_rms_adamw"]
_ADJUSTMENTS = get_args(Adjustment)
_ADJUST = (
    r"``'original'`` as above; ``'match_rms_adamw'``: :math:`0.2 \sqrt{\max(m, n)}`, "
    "so that rates tuned for AdamW serve"
)


class Muon(Optimizer):
    r"""Momentum whose singular values are made equal; AdamW for all but matrices.

    .. math::
        b_t &= \mu b_{t-1} + (1 - \mu) g_t \\
        u_t &= \operatorname{NewtonSchulz}(\mu b_t + (1 - \mu) g_t) \\
        \theta_t &= (1 - \gamma_t \lambda) \theta_{t-1}
            - \gamma_t \sqrt{\max(1, m / n)} \; u_t

    for a weight of shape (m, n). Variables that have not two axes, and those of a group
    with ``adam=True`` (embeddings, readouts), are stepped by AdamW with
    ``adam_lr_ratio`` times the rate.

    Source: Jordan et al. 2024, Muon; Liu et al. 2025, Muon is Scalable for LLM
    Training, for ``adjust_lr``.
    Differs: torch iterates in bfloat16, here it is the dtype of computation.
    """

    _needs = "whole matrices"
    _squares = 0

    lr: Rate = rate(default=1e-3)
    momentum: Number = decay_rate(0.95, r"\mu")
    weight_decay: Number = number(0.1, r"\lambda", "as in AdamW")
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    nesterov: bool = flag(True, "look ahead along the momentum")
    ns_steps: int = count(5, "Newton-Schulz iterations")
    ns_coefficients: tuple[float, ...] = option(_QUINTIC, "of the quintic polynomial")
    eps: Number = number(1e-7, doc="the least norm to divide by")
    adjust_lr: Adjustment = choice("original", _ADJUSTMENTS, _ADJUST)
    adam: bool = flag(False, "step all variables by AdamW; of use in groups")
    adam_lr_ratio: Number = number(1.0, doc="the rate of AdamW over that of Muon")
    beta1: Number = decay_rate(0.9, doc="of AdamW")
    beta2: Number = decay_rate(0.999, doc="of AdamW")
    adam_eps: Number = number(1e-8, doc="of AdamW")
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m for a matrix, else m and v."""
        if _is_matrix(param, hyper):
            return {"m": zeros(param)}
        return {"m": zeros(param), "v": zeros(param, is_real=True)}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if not _is_matrix(param, hyper):
            return _adamw(grad, param, slots, hyper, step)
        one_minus_momentum = hyper.one_minus("momentum")
        b = hyper.momentum * slots["m"] + one_minus_momentum * grad
        along = hyper.momentum * b + one_minus_momentum * grad if hyper.nesterov else b
        u = orthogonalize(along, hyper.ns_coefficients, hyper.ns_steps, hyper.eps)
        # The ratio is a Python number: shapes are known while tracing.
        rows, cols = param.shape
        if hyper.adjust_lr == "original":
            ratio = max(1.0, rows / cols) ** 0.5
        else:
            ratio = 0.2 * max(rows, cols) ** 0.5
        param = hyper.decay(param, param, -hyper.lr)
        return param - hyper.lr * ratio * u, {"m": b}


def orthogonalize(
    x: Array,
    coefficients: tuple[float, ...] = _QUINTIC,
    steps: int = 5,
    eps: float = 1e-7,
) -> Any:
    """Return a matrix with the singular vectors of ``x`` and singular values near 1.

    Args:
        x: shape ``(m, n)``.
        coefficients: a, b, c of the iteration X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X.
        steps: iterations.
        eps: the least norm to divide by.

    Source: Jordan et al. 2024, Muon; Newton-Schulz with a quintic tuned for slope.
    """
    # The quintic acts on the singular values alone: X = U S Vᵀ goes to U p(S) Vᵀ. It
    # takes (0, 1] towards 1, and the Frobenius norm is at least the largest singular
    # value. Of X Xᵀ and Xᵀ X the smaller one is computed.
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x, by = shrunk(x.T if tall else x)
    x = x / jnp.maximum(safe_sqrt(abs2(x).sum()), by * eps)
    for _ in range(steps):
        square = x @ x.conj().T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def _is_matrix(param: Any, hyper: Hyper) -> bool:
    return param.ndim == 2 and not hyper.adam


def _adamw(grad, param, slots, hyper, step) -> tuple[Any, dict[str, Any]]:
    grad = bounded(grad, slots, Optimizer._squares)
    m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
    v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
    root = safe_sqrt(v / hyper.debias("beta2", step)) + hyper.adam_eps
    u = m / hyper.debias("beta1", step) / root
    lr = hyper.lr * hyper.adam_lr_ratio
    return param - lr * hyper.decay(u, param), {"m": m, "v": v}
