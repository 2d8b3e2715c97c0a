# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum made orthogonal, for weight matrices."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import FLAG, Common

_QUINTIC = (3.4445, -4.775, 2.0315)


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

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        momentum: :math:`\mu` in [0, 1).
        weight_decay: :math:`\lambda` in [0, inf), as in AdamW.
        name: a display name.
        nesterov: look ahead along the momentum.
        ns_steps: Newton-Schulz iterations.
        ns_coefficients: of the quintic polynomial.
        eps: in [0, inf), the least norm to divide by.
        adjust_lr: ``"original"`` as above; ``"match_rms_adamw"``:
            :math:`0.2 \sqrt{\max(m, n)}`, so that rates tuned for AdamW serve.
        adam: step all variables by AdamW; of use in groups.
        adam_lr_ratio: the rate of AdamW over that of Muon.
        beta1: of AdamW, in [0, 1).
        beta2: of AdamW, in [0, 1).
        adam_eps: of AdamW, in [0, inf).
        common: see `Common`.

    Source: Jordan et al. 2024, Muon; Liu et al. 2025, Muon is Scalable for LLM
    Training, for ``adjust_lr``.
    Differs: torch iterates in bfloat16, here it is the dtype of computation.
    """

    decays = ("momentum", "beta1", "beta2")
    choices: ClassVar = {
        "nesterov": FLAG,
        "adam": FLAG,
        "adjust_lr": ("original", "match_rms_adamw"),
    }

    def __init__(
        self,
        lr: Any = 1e-3,
        train_vars: Any = None,
        momentum: Any = 0.95,
        weight_decay: Any = 0.1,
        name: str | None = None,
        *,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_coefficients: tuple[float, float, float] = _QUINTIC,
        eps: Any = 1e-7,
        adjust_lr: Literal["original", "match_rms_adamw"] = "original",
        adam: bool = False,
        adam_lr_ratio: Any = 1.0,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        adam_eps: Any = 1e-8,
        **common: Unpack[Common],
    ):
        numbers = {"momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        numbers |= {"adam_lr_ratio": adam_lr_ratio, "beta1": beta1, "beta2": beta2}
        numbers["adam_eps"] = adam_eps
        options = {"nesterov": nesterov, "ns_steps": int(ns_steps), "adam": adam}
        options |= {"ns_coefficients": tuple(ns_coefficients), "adjust_lr": adjust_lr}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: b for a matrix, else m and v."""
        if _is_matrix(param, hyper):
            return {"b": zeros(param)}
        return {"m": zeros(param), "v": zeros(param, is_real=True)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        if not _is_matrix(param, hyper):
            return _adamw(grad, param, slots, hyper, step)
        rest = hyper.one_minus("momentum")
        b = hyper.momentum * slots["b"] + rest * grad
        along = hyper.momentum * b + rest * grad if hyper.nesterov else b
        u = orthogonalize(along, hyper.ns_coefficients, hyper.ns_steps, hyper.eps)
        rows, cols = param.shape
        if hyper.adjust_lr == "original":
            ratio = max(1.0, rows / cols) ** 0.5
        else:
            ratio = 0.2 * max(rows, cols) ** 0.5
        param = hyper.decay(param, param, -hyper.lr)
        return param - hyper.lr * ratio * u, {"b": b}


def orthogonalize(
    x: Any, coefficients: tuple[float, ...] = _QUINTIC, steps: int = 5, eps: Any = 1e-7
) -> Any:
    """Return a matrix with the singular vectors of ``x`` and singular values near 1.

    Args:
        x: shape ``(m, n)``.
        coefficients: a, b, c of the iteration X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X.
        steps: iterations.
        eps: the least norm to divide by.

    Source: Jordan et al. 2024, Muon; Newton-Schulz with a quintic tuned for slope.
    """
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / jnp.maximum(jnp.sqrt(abs2(x).sum()), eps)
    for _ in range(steps):
        square = x @ x.conj().T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def _is_matrix(param: Any, hyper: Hyper) -> bool:
    return param.ndim == 2 and not hyper.adam


def _adamw(grad, param, slots, hyper, step) -> tuple[Any, dict[str, Any]]:
    m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
    v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
    root = jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.adam_eps
    u = m / hyper.debias("beta1", step) / root
    lr = hyper.lr * hyper.adam_lr_ratio
    return param - lr * hyper.decay(u, param), {"m": m, "v": v}
