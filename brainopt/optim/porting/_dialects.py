# SPDX-License-Identifier: Apache-2.0
"""AdamW as the programs of torch, optax, BrainPy and Keras compute it.

They differ from the paper in the order of operations, in what ``amsgrad`` takes the
maximum of, and in where epsilon stands. Each line keeps the order of the program that
it reproduces: results are equal to the last bit or so.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax.numpy as jnp

from ..._typing import Array, Slots
from ..engine._squares import bounded, bounded_apart
from ..engine._tree import abs2, safe_sqrt
from ..hyperparameters._hyper import Hyper

Dialect = Literal["document", "torch", "brainpy", "optax", "keras"]
DIALECTS = get_args(Dialect)
PROGRAMS = (
    "whose program to reproduce. ``'document'``: the formula above. ``'optax'``: the "
    "same, in optax's order and rounding. ``'torch'``: decay first, amsgrad's maximum "
    r"over v. ``'brainpy'``, ``'keras'``: as torch, with :math:`\epsilon` on the root "
    "of the uncorrected v"
)
"""What they are, for the documentation."""


def by_dialect(
    grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
) -> tuple[Any, dict[str, Any]]:
    """Return the parameter and its slots after one step of a peer's program."""
    if hyper.dialect == "optax":
        return _optax(grad, param, slots, hyper, step)
    m, v = moments(grad, slots, hyper, hyper.beta1)
    m, v = as_stored(m, slots["m"]), as_stored(v, slots["v"])
    new = {"m": m, "v": v}
    m_hat = corrected_mean(m, grad, hyper, step)
    # Over the raw moment: these programs correct the bias of the maximum afterwards.
    if hyper.amsgrad:
        v = new["v_max"] = jnp.maximum(slots["v_max"], v)
    # First θ ← θ (1 - γλ), then the step: another rounding than one sum of both.
    param = hyper.decay(param, param, -_scale(hyper))
    return param - hyper.lr * m_hat / _root(v, hyper, step), new


def _optax(grad, param, slots, hyper: Hyper, step) -> tuple[Any, dict[str, Any]]:
    # optax multiplies in the dtype of the slot, and rounds a narrow moment after use.
    beta1 = hyper.beta1.astype(slots["m"].dtype)
    m, v = moments(grad, slots, hyper, beta1)
    new = {"m": m, "v": v}
    m_hat = corrected_mean(m, grad, hyper, step, by_power=True)
    v_hat = v / hyper.debias("beta2", step, by_power=True)
    if hyper.amsgrad:
        v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
    direction = m_hat / (safe_sqrt(v_hat + hyper.eps_root) + hyper.eps)
    return decayed(param, hyper, direction), new


def moments(grad: Array, slots: Slots, hyper: Hyper, beta1: Array) -> tuple[Any, Any]:
    """Return the running means of the gradient and of its square."""
    grad, zero = bounded_apart(grad, slots, 16)
    # XLA contracts one of two products with their sum. With `zero` in between it is
    # always the first one, as without a bound, and as in optax.
    m = hyper.one_minus("beta1") * grad + (beta1 * slots["m"] - zero)
    v = hyper.one_minus("beta2") * abs2(grad) + (hyper.beta2 * slots["v"] - zero)
    return m, v


def _root(v: Any, hyper: Hyper, step: Any) -> Any:
    # torch: √v / √(1 - β₂^t) + ε. BrainPy and Keras: (√v + ε) / √(1 - β₂^t), whose ε
    # is larger in the first steps.
    root = safe_sqrt(hyper.debias("beta2", step))
    if hyper.dialect == "torch":
        return safe_sqrt(v + hyper.eps_root * root * root) / root + hyper.eps
    return (safe_sqrt(v + hyper.eps_root) + hyper.eps) / root


def _scale(hyper: Hyper) -> Any:
    if _decay_by(hyper) == "schedule":
        return hyper.eta
    return hyper.lr if _decay_by(hyper) == "lr" else 1.0


def _decay_by(hyper: Hyper) -> str:
    return getattr(hyper, "decay_by", "lr")  # Adam has no such option, nor nesterov


def decayed(param: Array, hyper: Hyper, direction: Array) -> Any:
    """Return the parameter after decay and a step along a direction."""
    # One product by γ where both terms have it, as in the formula.
    if _decay_by(hyper) == "lr":
        return param - hyper.lr * hyper.decay(direction, param)
    return hyper.decay(param, param, -_scale(hyper)) - hyper.lr * direction


def as_stored(moment: Array, slot: Array) -> Any:
    """Return a moment as it will be read at the next step.

    A moment narrower than the arithmetic must be used so: otherwise XLA keeps a copy of
    the old one, to compute the new one twice.
    """
    return moment.astype(slot.dtype).astype(moment.dtype)


def corrected_mean(
    m: Array, grad: Array, hyper: Hyper, step: Array, by_power: bool = False
) -> Any:
    """Return the bias-corrected mean, with ``nesterov`` that of the next step."""
    now = hyper.debias("beta1", step, by_power=by_power)
    if not getattr(hyper, "nesterov", False):
        return m / now
    grad = bounded(grad, {"m": m}, 16)
    # Dozat 2016: the momentum is that of the next step, and is corrected by t + 1, the
    # gradient by t.
    ahead = m / hyper.debias("beta1", step, ahead=1, by_power=by_power)
    return hyper.beta1 * ahead + hyper.one_minus("beta1") * (grad / now)
