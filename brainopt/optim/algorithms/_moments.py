# SPDX-License-Identifier: Apache-2.0
"""The two moments that Adam and its relatives keep."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from .._hyperparameters import Hyper
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

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return zeros: m, v and with ``amsgrad`` v_max."""
        slots = {"m": zeros(param), "v": zeros(param, is_real=True)}
        more = {"v_max": zeros(param, is_real=True)} if hyper.amsgrad else {}
        return slots | more

    def direction(
        self, grad: Any, slots: dict[str, Any], hyper: Hyper, step: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return m̂ / (√v̂ + ε) and the new slots."""
        m = hyper.beta1 * slots["m"] + hyper.one_minus("beta1") * grad
        v = hyper.beta2 * slots["v"] + hyper.one_minus("beta2") * abs2(grad)
        new = {"m": m, "v": v}
        m_hat = m / hyper.debias("beta1", step)
        v_hat = v / hyper.debias("beta2", step)
        if hyper.amsgrad:
            v_hat = new["v_max"] = jnp.maximum(slots["v_max"], v_hat)
        return m_hat / (jnp.sqrt(v_hat + hyper.eps_root) + hyper.eps), new
