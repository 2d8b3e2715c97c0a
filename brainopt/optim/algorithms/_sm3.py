# SPDX-License-Identifier: Apache-2.0
"""SM3: Adagrad whose memory is one vector for each axis."""

from __future__ import annotations

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import abs2, zeros
from ..hyperparameters._fields import Number, argument, decay_rate, number
from ..hyperparameters._hyper import Hyper


class SM3(Optimizer):
    r"""Adagrad with one accumulator for each axis instead of each element.

    .. math::
        \nu_t &= \beta \min_a \mu^a_{t-1} + (1 - \beta) |g_t|^2
            \quad (\beta = 0: \text{a sum}) \\
        \mu^a_t &= \max_{\text{other axes}} \nu_t \\
        m_t &= \mu m_{t-1} + (1 - \mu) g_t / \sqrt{\nu_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma_t m_t

    Source: Anil et al. 2019, Memory-Efficient Adaptive Optimization, algorithm SM3-II,
    with the axes as covers; ``beta`` is brainpy's.
    Differs: with ``beta`` brainpy never lets an accumulator shrink.
    """

    _needs = "the axes of each variable"
    _squares = 2**32

    beta: Number = decay_rate(0.0, r"\beta", "0 sums the squares, as the paper does")
    momentum: Number = decay_rate(0.0, r"\mu", has_buffer=True)
    eps: Number = number(1e-30, r"\epsilon")
    weight_decay: Number = number(None, r"\lambda", "an L2 penalty", none=0.0)
    display_name: str | None = argument(alias="name", default=None)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return zeros: a vector for each axis, and with momentum the mean step."""
        whole = zeros(param, is_real=True)
        slots = {
            f"axis{a}": jnp.zeros(n, whole.dtype) for a, n in enumerate(param.shape)
        }
        slots = slots or {"axis0": whole}
        more = {} if hyper.is_off("momentum") else {"mean_update": zeros(param)}
        return slots | more

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        grad = hyper.decay(grad, param)
        ndim = grad.ndim
        # A vector for each axis, shaped to broadcast along it. An element is covered by
        # one entry of each, and the least of these is the tightest bound on its sum.
        covers = [
            slots[f"axis{a}"].reshape([-1 if i == a else 1 for i in range(ndim)])
            for a in range(max(ndim, 1))
        ]
        least = covers[0]
        for cover in covers[1:]:
            least = jnp.minimum(least, cover)
        # β may change between steps, so the choice between its two meanings is traced.
        sums = hyper.beta == 0
        old = jnp.where(sums, 1, hyper.beta)
        nu = old * least + jnp.where(sums, 1, hyper.one_minus("beta")) * abs2(grad)
        u = grad / jnp.sqrt(nu + hyper.eps)
        new = {
            f"axis{a}": nu.max(axis=tuple(i for i in range(ndim) if i != a), initial=0)
            for a in range(max(ndim, 1))
        }
        if not hyper.is_off("momentum"):
            mean = hyper.momentum * slots["mean_update"]
            u = new["mean_update"] = mean + hyper.one_minus("momentum") * u
        return param - hyper.lr * u, new
