# SPDX-License-Identifier: Apache-2.0
"""Optimizers made of optax transformations."""

from __future__ import annotations

from typing import Any, Unpack

import jax

from ._numbers import View
from ._options import Common
from ._whole import Whole, flatten


class Optax(Whole):
    """An optimizer made of an optax transformation.

    Args:
        tx: anything with optax's ``init(params)`` and ``update(grads, state, params)``.
        train_vars: what to train; see `Optimizer`.
        name: a display name.
        lr: a factor of the updates, which may be a schedule.
        common: see `Common`.

    Example:
        >>> import brainopt as bo, optax
        >>> w = bo.TrainVar([1.0])
        >>> opt = bo.optim.Optax(optax.sgd(0.1, momentum=0.9), w)
        >>> opt.update(jnp.ones(1))
        >>> w.value.tolist(), list(opt.slots[""])
        ([0.8...], ['0.trace.param'])
    """

    def __init__(
        self,
        tx: Any,
        train_vars: Any = None,
        name: str | None = None,
        *,
        lr: Any = 1.0,
        **common: Unpack[Common],
    ):
        self.tx = tx
        super().__init__(lr, train_vars, name, **common)

    def init_all(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the leaves of the optax state, by path."""
        return flatten(self.tx.init(params))

    def rule_all(self, grads, params, held, hyper: View, step):
        """Return the parameters and the leaves of the state after one step."""
        tree = jax.tree.structure(jax.eval_shape(self.tx.init, params))
        state = jax.tree.unflatten(tree, list(held.values()))
        updates, state = self.tx.update(grads, state, params)
        new = jax.tree.map(
            lambda p, u: p + hyper.lr.astype(p.dtype) * u, params, updates
        )
        leaves = jax.tree.leaves(state)
        return new, dict(zip(held, leaves, strict=True))
