# SPDX-License-Identifier: Apache-2.0
"""Rprop: steps that grow while the gradient keeps its sign."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp

from .._hyperparameters import Hyper
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..settings._options import Common


class Rprop(Optimizer):
    r"""A step size for each element, from the signs of its gradients alone.

    While the sign stays the size grows by :math:`\eta_+`; where it turns the size
    shrinks by :math:`\eta_-` and the element rests for one step. The real and the
    imaginary part of a complex element are two elements. For whole batches.

    Args:
        lr: the first step size; a later change of ``lr`` is without effect.
        train_vars: what to train; see `Optimizer`.
        etas: :math:`\eta_-` in (0, 1) and :math:`\eta_+` in (1, inf).
        step_sizes: the smallest and the largest size.
        name: a display name.
        common: see `Common`.

    Source: Riedmiller & Braun 1993; the variant iRprop- of Igel & Hüsken 2000, as torch
    has it.
    """

    ranges: ClassVar = {"eta_minus": "(0, 1)", "eta_plus": "(1, inf)"}

    def __init__(
        self,
        lr: Any = 1e-2,
        train_vars: Any = None,
        etas: tuple[Any, Any] = (0.5, 1.2),
        step_sizes: tuple[Any, Any] = (1e-6, 50.0),
        name: str | None = None,
        **common: Unpack[Common],
    ):
        numbers = {"eta_minus": etas[0], "eta_plus": etas[1]}
        numbers |= {"smallest": step_sizes[0], "largest": step_sizes[1]}
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return the first sizes, and a gradient before of zero."""
        empty = zeros(param)
        size = empty + hyper.lr
        if jnp.iscomplexobj(empty):
            size = jax.lax.complex(size.real, size.real)
        return {"size": size, "prev": empty}

    def rule(self, grad, param, slots, hyper, step):
        """Return the parameter and its slots after one step."""
        if jnp.iscomplexobj(param):
            return self._by_parts(grad, param, slots, hyper, step)
        agree = grad * slots["prev"]
        grown = slots["size"] * hyper.eta_plus
        shrunk = slots["size"] * hyper.eta_minus
        size = jnp.where(agree > 0, grown, jnp.where(agree < 0, shrunk, slots["size"]))
        size = jnp.clip(size, hyper.smallest, hyper.largest)
        grad = jnp.where(agree < 0, jnp.zeros_like(grad), grad)
        return param - jnp.sign(grad) * size, {"size": size, "prev": grad}

    def _by_parts(self, grad, param, slots, hyper, step):
        parts = [
            self.rule(part(grad), part(param), jax.tree.map(part, slots), hyper, step)
            for part in (jnp.real, jnp.imag)
        ]
        return jax.tree.map(jax.lax.complex, *parts)
