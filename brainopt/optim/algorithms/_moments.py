# SPDX-License-Identifier: Apache-2.0
"""The two moments that Adam and its relatives keep."""

from __future__ import annotations

import jax.numpy as jnp

from ..._typing import Array, Slots
from .._hyper import Hyper
from ..engine._tree import abs2, safe_sqrt, zeros


def first_moments(param: Array, amsgrad: bool = False) -> Slots:
    """Return zeros: m, v and with ``amsgrad`` v_max."""
    slots = {"m": zeros(param), "v": zeros(param, is_real=True)}
    return slots | ({"v_max": zeros(param, is_real=True)} if amsgrad else {})


def adam_direction(
    grad: Array,
    slots: Slots,
    hyper: Hyper,
    step: Array,
    eps_root: Array | float = 0.0,
    amsgrad: bool = False,
) -> tuple[Array, Slots]:
    r"""Return :math:`\hat m / (\sqrt{\hat v + \epsilon_r} + \epsilon)`, and slots."""
    m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
    v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
    new = {"m": m, "v": v}
    m_hat = m / hyper.debias("beta1", step)
    v_hat = v / hyper.debias("beta2", step)
    if amsgrad:
        v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
    return m_hat / (safe_sqrt(v_hat + eps_root) + hyper.eps), new
