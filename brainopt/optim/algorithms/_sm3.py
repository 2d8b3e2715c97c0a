# SPDX-License-Identifier: Apache-2.0
"""SM3: Adagrad whose memory is one vector for each axis."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..settings._groups import is_off
from ..settings._options import Common


class SM3(Optimizer):
    r"""Adagrad with one accumulator for each axis in the place of each element.

    .. math::
        \nu_t &= \beta \min_a \mu^a_{t-1} + (1 - \beta) |g_t|^2
            \quad (\beta = 0: \text{a sum}) \\
        \mu^a_t &= \max_{\text{other axes}} \nu_t \\
        m_t &= \mu m_{t-1} + (1 - \mu) g_t / \sqrt{\nu_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma_t m_t

    Args:
        lr: :math:`\gamma`: a number in [0, inf), a Variable, a schedule, or a callable
            of the step.
        train_vars: what to train; see `Optimizer`.
        beta: :math:`\beta` in [0, 1); 0 sums the squares, as the paper does.
        momentum: :math:`\mu` in [0, 1).
        eps: :math:`\epsilon` in [0, inf).
        weight_decay: in [0, inf), the strength of the L2 penalty.
        name: a display name.
        common: see `Common`.

    Source: Anil et al. 2019, Memory-Efficient Adaptive Optimization, algorithm SM3-II,
    with the axes as covers; ``beta`` is brainpy's.
    Differs: with ``beta`` brainpy never lets an accumulator shrink.
    """

    decays = ("beta", "momentum")

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        beta: Any = 0.0,
        momentum: Any = 0.0,
        eps: Any = 1e-30,
        weight_decay: Any = None,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"beta": beta, "momentum": momentum, "eps": eps}
        numbers["weight_decay"] = weight_decay or 0.0
        plain = is_off(momentum)
        super().__init__(
            lr, train_vars, name, numbers, {"no_momentum": plain}, **common
        )

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: a vector for each axis, and with momentum m."""
        whole = zeros(param, is_real=True)
        slots = {
            f"axis{a}": jnp.zeros(n, whole.dtype) for a, n in enumerate(param.shape)
        }
        slots = slots or {"axis0": whole}
        return slots if hyper.no_momentum else slots | {"m": zeros(param)}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        ndim = grad.ndim
        covers = [
            slots[f"axis{a}"].reshape([-1 if i == a else 1 for i in range(ndim)])
            for a in range(max(ndim, 1))
        ]
        least = covers[0]
        for cover in covers[1:]:
            least = jnp.minimum(least, cover)
        sums = hyper.beta == 0
        old = jnp.where(sums, 1, hyper.beta)
        nu = old * least + jnp.where(sums, 1, hyper.one_minus("beta")) * abs2(grad)
        u = grad / jnp.sqrt(nu + hyper.eps)
        new = {
            f"axis{a}": nu.max(axis=tuple(i for i in range(ndim) if i != a), initial=0)
            for a in range(max(ndim, 1))
        }
        if not hyper.no_momentum:
            u = new["m"] = hyper.momentum * slots["m"] + hyper.one_minus("momentum") * u
        return param - hyper.lr * u, new
