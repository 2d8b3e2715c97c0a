# SPDX-License-Identifier: Apache-2.0
"""AdamW, with options that reproduce torch, optax, BrainPy and Keras."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import DTYPE, FLAG, Common

Dialect = Literal["document", "torch", "brainpy", "optax", "keras"]
_RAW = ("torch", "brainpy", "keras")


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

    Args:
        lr: :math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or
            a callable of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf), outside the root of the corrected moment.
        weight_decay: :math:`\lambda` in [0, inf), or a schedule.
        amsgrad: divide by the root of the largest :math:`\hat v` so far.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        eps_root: :math:`\epsilon_r` in [0, inf), inside the root.
        nesterov: look ahead: :math:`\hat m_t = \beta_1 m_t / (1 - \beta_1^{t+1}) +
            (1 - \beta_1) g_t / (1 - \beta_1^t)`.
        mu_dtype: dtype in which m is stored, and used; default float32 or wider.
        nu_dtype: the same for v.
        decay_by: what scales the decay: ``"lr"``, :math:`\gamma_t \lambda`;
            ``"schedule"``, :math:`\eta_t \lambda` with the multiplier
            :math:`\eta_t = \gamma_t / \gamma`; ``"none"``, :math:`\lambda`.
        dialect: whose program to reproduce. ``"document"``: the formula above.
            ``"optax"``: the same, in optax's order and rounding. ``"torch"``: decay
            first, amsgrad's maximum over v. ``"brainpy"``, ``"keras"``: as torch, with
            :math:`\epsilon` on the root of the uncorrected v.
        common: see `Common`.

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

    decays = ("beta1", "beta2")
    choices: ClassVar = {
        "amsgrad": FLAG,
        "nesterov": FLAG,
        "decay_by": ("lr", "schedule", "none"),
        "dialect": ("document", "torch", "brainpy", "optax", "keras"),
        "mu_dtype": DTYPE,
        "nu_dtype": DTYPE,
    }

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 1e-2,
        amsgrad: bool = False,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        eps_root: Any = 0.0,
        nesterov: bool = False,
        mu_dtype: Any = None,
        nu_dtype: Any = None,
        decay_by: Literal["lr", "schedule", "none"] = "lr",
        dialect: Dialect = "document",
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_root": eps_root}
        numbers["weight_decay"] = 0.0 if weight_decay is None else weight_decay
        options = {"amsgrad": amsgrad, "nesterov": nesterov, "decay_by": decay_by}
        options |= {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype, "dialect": dialect}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        names = ("v", "v_max") if hyper.amsgrad else ("v",)
        squares = {name: zeros(param, hyper.nu_dtype, is_real=True) for name in names}
        return {"m": zeros(param, hyper.mu_dtype), **squares}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        beta1 = hyper.beta1
        if hyper.dialect == "optax":
            beta1 = beta1.astype(slots["m"].dtype)
        m = hyper.one_minus("beta1") * grad + beta1 * slots["m"]
        v = hyper.one_minus("beta2") * abs2(grad) + hyper.beta2 * slots["v"]
        if hyper.dialect != "optax":
            m, v = _as_stored(m, slots["m"]), _as_stored(v, slots["v"])
        new = {"m": m, "v": v}
        m_hat = _corrected_mean(m, grad, hyper, step)
        by = {"lr": hyper.lr, "none": 1.0}.get(hyper.decay_by)
        by = hyper.eta if by is None else by
        if hyper.dialect in _RAW:
            if hyper.amsgrad:
                v = new["v_max"] = jnp.maximum(slots["v_max"], v)
            param = hyper.decay(param, param, -by)
            return param - hyper.lr * m_hat / _raw_root(v, hyper, step), new
        v_hat = v / _debias("beta2", hyper, step)
        if hyper.amsgrad:
            v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
        direction = m_hat / (jnp.sqrt(v_hat + hyper.eps_root) + hyper.eps)
        if hyper.decay_by == "lr":
            return param + -hyper.lr * hyper.decay(direction, param), new
        return hyper.decay(param, param, -by) - hyper.lr * direction, new


def _as_stored(moment: Any, slot: Any) -> Any:
    # A moment narrower than the arithmetic is used as it will be read at the next
    # step: otherwise XLA keeps a copy of the old one, to compute the new one twice.
    return moment.astype(slot.dtype).astype(moment.dtype)


def _corrected_mean(m: Any, grad: Any, hyper: Hyper, step: Any) -> Any:
    now = _debias("beta1", hyper, step)
    if not hyper.nesterov:
        return m / now
    ahead = m / _debias("beta1", hyper, step, ahead=1)
    return hyper.beta1 * ahead + hyper.one_minus("beta1") * (grad / now)


def _raw_root(v: Any, hyper: Hyper, step: Any) -> Any:
    root = jnp.sqrt(_debias("beta2", hyper, step))
    if hyper.dialect == "torch":
        return jnp.sqrt(v + hyper.eps_root * root * root) / root + hyper.eps
    return (jnp.sqrt(v + hyper.eps_root) + hyper.eps) / root


def _debias(name: str, hyper: Hyper, step: Any, ahead: int = 0) -> Any:
    return hyper.debias(name, step, ahead, by_power=hyper.dialect == "optax")
