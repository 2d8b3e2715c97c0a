# SPDX-License-Identifier: Apache-2.0
"""An optimizer as a pair of functions, as optax has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..errors import message


class GradientTransformation(NamedTuple):
    """Two pure functions, as optax has them."""

    init: Callable
    update: Callable


def as_optax(optimizer: Any) -> Any:
    """Return an optimizer as an optax ``GradientTransformation``.

    Its state is that of ``opt.init``; its updates are what `optax.apply_updates` adds.
    Like every transformation of optax it takes complex gradients as the direction
    uphill, the conjugate of what `jax.grad` returns.
    """

    def update(grads, state, params=None):
        if params is None:
            raise ValueError(
                message(
                    "The update of a brainopt optimizer needs the parameters.",
                    help="tx.update(grads, state, params).",
                )
            )
        grads = jax.tree.map(jnp.conj, grads)
        new, state = optimizer.apply(params, state, grads)
        return jax.tree.map(lambda n, p: n - p, new, params), state

    optax = sys.modules.get("optax")
    kind = GradientTransformation if optax is None else optax.GradientTransformation
    return kind(optimizer.init, update)
