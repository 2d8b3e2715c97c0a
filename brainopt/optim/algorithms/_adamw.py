# SPDX-License-Identifier: Apache-2.0
"""AdamW, with options that reproduce torch, optax, BrainPy and Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, Literal, get_args

import jax.numpy as jnp

from ..._typing import Array, DTypeLike, Slots
from ...errors import HyperparameterError, message
from .._cautions import warn_of_coarse_mean
from .._optimizer import Optimizer
from ..engine._tree import safe_sqrt, zeros
from ..hyperparameters._fields import (
    Betas,
    Number,
    argument,
    choice,
    decay_rate,
    dtype,
    flag,
    number,
    together,
)
from ..hyperparameters._hyper import Hyper
from ..porting._dialects import (
    DIALECTS,
    PROGRAMS,
    Dialect,
    as_stored,
    by_dialect,
    corrected_mean,
    decayed,
    moments,
)

DecayBy = Literal["lr", "schedule", "none"]
DECAY_BY = get_args(DecayBy)
_NESTEROV = (
    r"look ahead: :math:`\hat m_t = \beta_1 m_t / (1 - \beta_1^{t+1}) + (1 - \beta_1) "
    r"g_t / (1 - \beta_1^t)`"
)
_SCALES = (
    r"what scales the decay: ``'lr'``, :math:`\gamma_t \lambda`; ``'schedule'``, "
    r":math:`\eta_t \lambda` with the multiplier :math:`\eta_t = \gamma_t / \gamma`; "
    r"``'none'``, :math:`\lambda`"
)


class AdamW(Optimizer):
    r"""Adam with weight decay that acts on the parameter, not through the gradient.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \left(
            \frac{m_t / (1 - \beta_1^t)}
                 {\sqrt{v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}
            + \lambda \theta_{t-1} \right)

    with :math:`|g|^2` real for complex parameters. Moments are float32 or wider
    whatever the dtype of the parameter.

    Raises:
        HyperparameterError: a number is out of its range.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0])
        >>> opt = bo.optim.AdamW(0.1, w, weight_decay=0.0)
        >>> opt.update(bo.grad(lambda: (w**2).sum(), w)())
        >>> round(float(w[0]), 4)
        0.9

    Source: Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization, algorithm
    2; Reddi et al. 2018, On the Convergence of Adam and Beyond, for ``amsgrad``;
    Dozat 2016, Incorporating Nesterov Momentum into Adam, for ``nesterov``.
    Differs: the paper scales the decay by the schedule multiplier alone, which is
    ``decay_by="schedule"``; amsgrad takes the maximum over the corrected moment, as
    brainpy documents it (brainpy's program and torch take it over the raw one); optax
    uses a moment narrower than the arithmetic before it is rounded, as
    ``dialect="optax"`` does here.
    """

    _elementwise = True
    _squares = 0  # see `moments`

    beta1: Number = decay_rate(0.9, r"\beta_1", "of the first moment")
    beta2: Number = decay_rate(0.999, r"\beta_2", "of the second moment")
    eps: Number = number(1e-8, r"\epsilon", "outside the root of the corrected moment")
    weight_decay: Number = number(1e-2, r"\lambda", "decay of the parameter", none=0.0)
    amsgrad: bool = flag(
        False, r"divide by the root of the largest :math:`\hat v` so far"
    )
    display_name: str | None = argument(alias="name", default=None)
    _: KW_ONLY
    betas: Betas = together("beta1", "beta2")
    eps_root: Number = number(0.0, r"\epsilon_r", "inside the root")
    nesterov: bool = flag(False, _NESTEROV)
    mu_dtype: DTypeLike | None = dtype(
        None, "dtype in which m is stored, and used; default float32 or wider"
    )
    nu_dtype: DTypeLike | None = dtype(
        None, "the same for v; in bfloat16 it falls only with a beta2 below 0.996"
    )
    decay_by: DecayBy = choice("lr", DECAY_BY, _SCALES)
    dialect: Dialect = choice("document", DIALECTS, PROGRAMS)
    _is_additive = True

    def _check_arguments(self, given: Mapping[str, Any]) -> None:
        self._check_group(given)

    def _check_group(self, settings: Mapping[str, Any]) -> None:
        kind = settings.get("nu_dtype")
        if kind is None or not jnp.issubdtype(kind, jnp.floating):
            return  # what is no float is refused where the settings are checked
        if jnp.finfo(kind).maxexp < jnp.finfo(jnp.float32).maxexp:
            raise HyperparameterError(
                message(
                    f"nu_dtype={jnp.dtype(kind).name} is too narrow for squares:",
                    [f"its largest number is {float(jnp.finfo(kind).max):g}"],
                    "take bfloat16, whose range is that of float32.",
                )
            )

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        names = ("v", "v_max") if hyper.amsgrad else ("v",)
        warn_of_coarse_mean(self, "m", "mu_dtype", "beta1", hyper)
        warn_of_coarse_mean(self, "v", "nu_dtype", "beta2", hyper)
        squares = {name: zeros(param, hyper.nu_dtype, is_real=True) for name in names}
        return {"m": zeros(param, hyper.mu_dtype), **squares}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if hyper.dialect != "document":
            return by_dialect(grad, param, slots, hyper, step)
        m, v = moments(grad, slots, hyper, hyper.beta1)
        m, v = as_stored(m, slots["m"]), as_stored(v, slots["v"])
        new = {"m": m, "v": v}
        # Algorithm 2, lines 9 and 10.
        m_hat = corrected_mean(m, grad, hyper, step)
        v_hat = v / hyper.debias("beta2", step)
        if hyper.amsgrad:
            v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
        direction = m_hat / (safe_sqrt(v_hat + hyper.eps_root) + hyper.eps)
        # Line 12: the decay acts on the parameter, so the moments are free of it.
        return decayed(param, hyper, direction), new
