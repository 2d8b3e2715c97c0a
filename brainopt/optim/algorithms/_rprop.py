# SPDX-License-Identifier: Apache-2.0
"""Rprop: steps that grow while the gradient keeps its sign."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..._typing import Array, Slots
from .._optimizer import Optimizer
from ..engine._tree import zeros
from ..hyperparameters._fields import Pair, Rate, argument, number, rate, together
from ..hyperparameters._hyper import Hyper

_ETAS = r":math:`\eta_-` in (0, 1) and :math:`\eta_+` in (1, inf)"


class Rprop(Optimizer):
    r"""A step size for each element, from the signs of its gradients alone.

    While the sign stays the size grows by :math:`\eta_+`; where it turns the size
    shrinks by :math:`\eta_-` and the element rests for one step. The real and the
    imaginary part of a complex element are two elements. For whole batches.

    Source: Riedmiller & Braun 1993; the variant iRprop- of Igel & Hüsken 2000, as torch
    has it.
    """

    _elementwise = True
    _squares = 0

    lr: Rate = rate(
        default=1e-2,
        doc="the first step size; a later change of ``lr`` is without effect",
    )
    eta_minus = number(range="(0, 1)")
    eta_plus = number(range="(1, inf)")
    smallest = number()
    largest = number()
    etas: Pair = together("eta_minus", "eta_plus", default=(0.5, 1.2), doc=_ETAS)
    step_sizes: Pair = together(
        "smallest",
        "largest",
        default=(1e-6, 50.0),
        doc="the smallest and the largest size",
    )
    display_name: str | None = argument(alias="name", default=None)
    _is_additive = True

    def init_slots(self, param: Array, hyper: Hyper) -> Slots:
        """Return the first sizes, and a gradient before of zero."""
        empty = zeros(param)
        size = empty + hyper.lr
        if jnp.iscomplexobj(empty):
            size = jax.lax.complex(size.real, size.real)
        return {"size": size, "prev": empty}

    def rule(
        self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array
    ) -> tuple[Array, Slots]:
        """Return the parameter and its slots after one step."""
        if jnp.iscomplexobj(param):
            return self._by_parts(grad, param, slots, hyper, step)
        # Of signs: a product of two gradients may be too small, or too large, to hold.
        agree = jnp.sign(grad) * jnp.sign(slots["prev"])
        grown = slots["size"] * hyper.eta_plus
        shrunk = slots["size"] * hyper.eta_minus
        size = jnp.where(agree > 0, grown, jnp.where(agree < 0, shrunk, slots["size"]))
        size = jnp.clip(size, hyper.smallest, hyper.largest)
        # iRprop-: after a turn the gradient counts as 0. So the element rests now, and
        # in the next step the product is 0 and its size stays.
        grad = jnp.where(agree < 0, jnp.zeros_like(grad), grad)
        return param - jnp.sign(grad) * size, {"size": size, "prev": grad}

    def _by_parts(self, grad, param, slots, hyper, step):
        # The product of two complex numbers has no sign; each part has.
        parts = [
            self.rule(part(grad), part(param), jax.tree.map(part, slots), hyper, step)
            for part in (jnp.real, jnp.imag)
        ]
        return jax.tree.map(jax.lax.complex, *parts)
