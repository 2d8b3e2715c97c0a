# SPDX-License-Identifier: Apache-2.0
"""Adam, with weight decay coupled to the gradient or decoupled from it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ._numbers import View
from ._optimizer import Optimizer, abs2, zeros


class _Moments(Optimizer):
    """Abstract: the two moments that Adam and AdamW share."""

    decays = ("beta1", "beta2")
    options = ("amsgrad",)
    amsgrad: bool

    def init_slots(self, param: Any) -> dict[str, Any]:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        slots = {"m": zeros(param), "v": zeros(param, real=True)}
        return slots | {"v_max": zeros(param, real=True)} if self.amsgrad else slots

    def direction(
        self, grad: Any, slots: dict[str, Any], hyper: View, step: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return m̂ / (√v̂ + ε) and the new slots."""
        m = hyper.beta1 * slots["m"] + hyper.rest("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.rest("beta2") * abs2(grad)
        new = {"m": m, "v": v}
        m_hat = m / hyper.debias("beta1", step)
        v_hat = v / hyper.debias("beta2", step)
        if self.amsgrad:
            v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
        return m_hat / (jnp.sqrt(v_hat + hyper.eps_root) + hyper.eps), new


class AdamW(_Moments):
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
        weight_decay: :math:`\lambda` in [0, inf).
        amsgrad: divide by the root of the largest :math:`\hat v` so far.
        name: a display name.
        eps_root: :math:`\epsilon_r` in [0, inf), inside the root.

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
    2; Reddi et al. 2018, On the Convergence of Adam and Beyond, for ``amsgrad``.
    Differs: the paper scales the decay by the schedule multiplier alone, here it is
    scaled by the learning rate; amsgrad takes the maximum over the corrected moment,
    as brainpy documents it (brainpy's program and torch take it over the raw one).
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        name: str | None = None,
        *,
        eps_root: float = 0.0,
    ):
        self.amsgrad = bool(amsgrad)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_root": eps_root}
        super().__init__(lr, train_vars, name, **numbers, weight_decay=weight_decay)

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        direction, slots = self.direction(grad, slots, hyper, step)
        return param - hyper.lr * (direction + hyper.weight_decay * param), slots


class Adam(_Moments):
    r"""Adam, with L2 regularisation added to the gradient.

    As `AdamW`, but :math:`g_t` is replaced by :math:`g_t + \lambda \theta_{t-1}` and
    nothing is subtracted from the parameter directly.

    Args:
        lr: :math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or
            a callable of the step.
        train_vars: what to train; see `Optimizer`.
        beta1: :math:`\beta_1` in [0, 1), decay rate of the first moment.
        beta2: :math:`\beta_2` in [0, 1), decay rate of the second moment.
        eps: :math:`\epsilon` in [0, inf), outside the root of the corrected moment.
        weight_decay: :math:`\lambda` in [0, inf), the strength of the L2 penalty.
        name: a display name.
        amsgrad: divide by the root of the largest :math:`\hat v` so far.
        eps_root: :math:`\epsilon_r` in [0, inf), inside the root.

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
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float | None = None,
        name: str | None = None,
        *,
        amsgrad: bool = False,
        eps_root: float = 0.0,
    ):
        self.amsgrad = bool(amsgrad)
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_root": eps_root}
        decay = 0.0 if weight_decay is None else weight_decay
        super().__init__(lr, train_vars, name, **numbers, weight_decay=decay)

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = grad + hyper.weight_decay * param
        direction, slots = self.direction(grad, slots, hyper, step)
        return param - hyper.lr * direction, slots
