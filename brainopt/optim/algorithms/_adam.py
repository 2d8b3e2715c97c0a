# SPDX-License-Identifier: Apache-2.0
"""Adam: adaptive moments, with weight decay through the gradient."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from .._hyperparameters import View, pair
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._options import FLAG, Common


class Moments(Optimizer):
    """Abstract: two moments and the direction m̂ / (√v̂ + ε)."""

    decays = ("beta1", "beta2")
    choices: ClassVar = {"amsgrad": FLAG}

    def __init__(
        self,
        lr: Any,
        train_vars: Any,
        name: str | None,
        betas: tuple[Any, Any],
        eps: Any,
        weight_decay: Any,
        eps_root: Any = 0.0,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ):
        beta1, beta2 = betas
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_root": eps_root}
        numbers["weight_decay"] = 0.0 if weight_decay is None else weight_decay
        options = {"amsgrad": amsgrad}
        super().__init__(lr, train_vars, name, numbers, options, **common)

    def init_slots(self, param: Any, hyper: View) -> dict[str, Any]:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        slots = {"m": zeros(param), "v": zeros(param, is_real=True)}
        more = {"v_max": zeros(param, is_real=True)} if hyper.amsgrad else {}
        return slots | more

    def direction(
        self, grad: Any, slots: dict[str, Any], hyper: View, step: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return m̂ / (√v̂ + ε) and the new slots."""
        m = hyper.beta1 * slots["m"] + hyper.rest("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.rest("beta2") * abs2(grad)
        new = {"m": m, "v": v}
        m_hat = m / hyper.debias("beta1", step)
        v_hat = v / hyper.debias("beta2", step)
        if hyper.amsgrad:
            v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
        return m_hat / (jnp.sqrt(v_hat + hyper.eps_root) + hyper.eps), new


class Adam(Moments):
    r"""Adam, with L2 regularisation added to the gradient.

    .. math::
        g'_t &= g_t + \lambda \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g'_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g'_t|^2 \\
        \theta_t &= \theta_{t-1} - \gamma_t \frac{m_t / (1 - \beta_1^t)}
            {\sqrt{v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}

    Args:
        lr: :math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or
            a callable of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf), outside the root of the corrected moment.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        betas: ``(beta1, beta2)``, in their place.
        amsgrad: divide by the root of the largest :math:`\hat v` so far.
        eps_root: :math:`\epsilon_r` in [0, inf), inside the root.
        common: see `Common`.

    Raises:
        HyperparameterError: a number is out of its range.

    Source: Kingma & Ba 2015, Adam, algorithm 1.
    Differs: brainpy shrinks the parameter by ``weight_decay`` itself, not scaled by
    the learning rate.
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = None,
        name: str | None = None,
        *,
        betas: tuple[Any, Any] | None = None,
        amsgrad: bool = False,
        eps_root: Any = 0.0,
        **common: Unpack[Common],
    ):
        betas = pair(betas, beta1, beta2)
        super().__init__(
            lr, train_vars, name, betas, eps, weight_decay, eps_root, amsgrad, **common
        )

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        direction, slots = self.direction(grad, slots, hyper, step)
        return param - hyper.lr * direction, slots
