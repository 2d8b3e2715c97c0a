# SPDX-License-Identifier: Apache-2.0
"""NAdam: Adam with Nesterov momentum that warms up."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper, pair
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import Common


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum and its momentum schedule.

    .. math::
        \mu_t &= \beta_1 (1 - 0.96^{t \psi} / 2) \\
        \theta_t &= \theta_{t-1} - \gamma_t \left(
            \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i}
            + \frac{(1 - \mu_t) g_t}{1 - \prod_{i \le t} \mu_i} \right)
            / (\sqrt{\hat v_t} + \epsilon)

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf).
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        momentum_decay: :math:`\psi` in [0, inf).
        decoupled_weight_decay: decay the parameter as AdamW does, not the gradient.
        common: see `Common`.

    Source: Dozat 2016, Incorporating Nesterov Momentum into Adam, with the schedule
    that torch uses. ``AdamW(nesterov=True)`` is optax's variant, without it.
    """

    decays = ("beta1", "beta2")

    def __init__(
        self,
        lr: Any = 2e-3,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        momentum_decay: Any = 4e-3,
        decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ):
        beta1, beta2 = pair(betas, beta1, beta2)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
        numbers |= {"weight_decay": weight_decay, "momentum_decay": momentum_decay}
        options = {"decoupled": bool(decoupled_weight_decay)}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros m and v, and the product of the momenta, 1."""
        v = zeros(param, is_real=True)
        return {"m": zeros(param), "v": v, "product": jnp.ones((), v.dtype)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        if hyper.decoupled:
            param = hyper.decay(param, param, -hyper.lr)
        else:
            grad = hyper.decay(grad, param)
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        mu, ahead = _momentum(step, hyper), _momentum(step, hyper, 1)
        product = slots["product"] * mu
        root = jnp.sqrt(v / hyper.debias("beta2", step)) + hyper.eps
        along = (1 - mu) / (1 - product) * grad + ahead / (1 - product * ahead) * m
        new = {"m": m, "v": v, "product": product}
        return param - hyper.lr * along / root, new


def _momentum(step: Any, hyper: Hyper, ahead: int = 0) -> Any:
    # Added as a float: the last int32 has no successor.
    time = (step.astype(hyper.lr.dtype) + ahead) * hyper.momentum_decay
    return hyper.beta1 * (1 - 0.5 * 0.96**time)
