# SPDX-License-Identifier: Apache-2.0
"""An optimizer as a pair of pure functions, as in optax."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._typing import PyTree
from ..errors import message
from ._numbers import SettingVariable
from ._stepping import owned


class GradientTransformation(NamedTuple):
    """Two pure functions, as optax has them."""

    init: Callable
    update: Callable


def as_optax(optimizer: Any) -> Any:
    """Return an optimizer as an optax ``GradientTransformation``.

    Its state is that of ``opt.init``; its updates are what `optax.apply_updates` adds.
    Like every transformation of optax it takes complex gradients as the direction
    uphill, the conjugate of what `jax.grad` returns.

    The numbers are those in the state. A transformation that made no state brings its
    own: `optax.inject_hyperparams` makes a new one at each step, with new numbers.
    """
    made_state = False

    def init(params: PyTree):
        nonlocal made_state
        made_state = True
        return optimizer.init(params)

    def update(grads: PyTree, state: PyTree, params: PyTree = None, **_: Any):
        # Like those of optax it ignores what it does not know, as ``value=``.
        if params is None:
            raise ValueError(
                message(
                    "The update of a brainopt optimizer needs the parameters.",
                    help="tx.update(grads, state, params).",
                )
            )
        # Without `init` the state was made by another instance, as inject_hyperparams
        # does. Then the numbers are those of this one, which carries the new ones.
        if not made_state:
            state = {**state, **_numbers_of(optimizer)}
        grads = jax.tree.map(jnp.conj, grads)
        new, state = optimizer.apply(params, state, grads)
        return jax.tree.map(lambda n, p: n - p, new, params), state

    optax = sys.modules.get("optax")
    kind = GradientTransformation if optax is None else optax.GradientTransformation
    return kind(init, update)


def _numbers_of(optimizer: Any) -> dict[str, Any]:
    return {
        path: jnp.copy(variable.value)  # a state may be donated
        for path, variable in owned(optimizer).items()
        if isinstance(variable, SettingVariable)
    }
