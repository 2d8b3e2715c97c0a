# SPDX-License-Identifier: Apache-2.0
"""Lookahead: fast weights that return to slow ones."""

from __future__ import annotations

from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp

from ... import runtime
from ..._typing import Gradients, Model
from ...core import Variable, join
from ...errors import GradientError, message
from ...runtime import depend_on
from ...sharding import zero as divide
from .._aliases import by_first_names
from .._swapping import Averaged
from ..engine._missed import add_counts
from ..engine._precision import wide
from ..engine._tree import named
from ..hyperparameters._fields import number
from ._wrapper import OptimizerWrapper


class Lookahead(Averaged, OptimizerWrapper):
    r"""An optimizer whose weights return, every k steps, towards slow ones.

    .. math:: \phi \leftarrow \phi + \alpha (\theta - \phi), \qquad
              \theta \leftarrow \phi \qquad \text{every } k \text{ steps}

    Args:
        optimizer: takes the fast steps, in place; its settings are set on it.
        sync_period: k, in [1, inf).
        alpha: :math:`\alpha` in [0, 1].
        name: a display name.

    Source: Zhang et al. 2019, Lookahead Optimizer, algorithm 1.
    """

    sync_period = number(range="[1, inf)")
    alpha = number(range="[0, 1]")

    def __init__(
        self,
        optimizer: Any,
        sync_period: int = 5,
        alpha: SupportsFloat = 0.5,
        name: str | None = None,
    ):
        numbers = {"sync_period": float(sync_period), "alpha": float(alpha)}
        self._keep_numbers(numbers)
        super().__init__(optimizer, name)
        self.count = Variable(jnp.zeros((), jnp.int32))
        self.slow: dict[str, Variable] = {}
        self._follow()

    def _follow(self) -> None:
        before = len(self.slow)
        for path, variable in self._trained.variables.items():
            for name, leaf in named({path: variable.value}):
                if name not in self.slow:
                    copy = jnp.array(leaf, wide(leaf.dtype))
                    self.slow[name] = Variable(copy, name=f"{name} slow")
        is_placed = self.zero is not None or self.offload is not None
        if is_placed and len(self.slow) > before:
            divide(self, axis=self.zero, offload=self.offload)

    def register_train_vars(self, train_vars: Model) -> None:
        """Train more variables; see `Optimizer.register_train_vars`."""
        super().register_train_vars(train_vars)
        self._follow()

    def update(self, grads: Gradients, **options: Any) -> None:
        """Take one fast step, and every k steps the slow one."""
        with runtime.exclusive():
            before = self._before()
            self.optimizer.update(grads, **options)
            self._sync(before)

    def flush(self) -> None:
        """Take the step of an incomplete window; see `Optimizer.flush`."""
        with runtime.exclusive():
            before = self._before()
            self.optimizer.flush()
            self._sync(before)

    def step(self, closure: Any) -> Any:
        """Take one step on the loss that ``closure`` returns; return it."""
        with runtime.exclusive():
            before = self._before()
            out = self.optimizer.step(closure)
            self._sync(before)
        return out

    def _before(self) -> Any:
        depend_on(self._revision)
        unknown = [p for p, _ in named(self._trained.values()) if p not in self.slow]
        if unknown:
            raise GradientError(
                message(
                    "This Lookahead has no slow weights for:",
                    unknown,
                    "register variables with lookahead.register_train_vars(...), not "
                    "with the optimizer inside.",
                )
            )
        return self._taken()

    def _sync(self, before: Any) -> None:
        # A micro-batch or a step that was skipped is no fast step.
        moved = self._taken() != before
        count = add_counts(self.count.value, moved)
        # Everything below is computed in each step and kept in every k-th: the count is
        # traced under `bo.jit`.
        due = moved & (count % self.sync_period.astype(jnp.int32) == 0)
        alpha = self.alpha
        variables, values = [self.count], [count]
        for path, variable in self._trained.variables.items():
            held, leaves = variable.value, []
            for name, leaf in named({path: held}):
                if name in self.frozen:
                    leaves.append(leaf)
                    continue
                slow = self.slow[name].value
                back = slow + alpha.astype(slow.dtype) * (
                    leaf.astype(slow.dtype) - slow
                )
                variables.append(self.slow[name])
                values.append(jnp.where(due, back, slow))
                leaves.append(jnp.where(due, back.astype(leaf.dtype), leaf))
            variables.append(variable)
            values.append(jax.tree.unflatten(jax.tree.structure(held), leaves))
        runtime.commit(variables, values)

    def _prepare_load(
        self, state: dict[str, Any], path: str, context: Any, staged: Any
    ) -> None:
        section = join(path, "slow")
        own = [join(section, name) for name in self.slow]
        by_first_names(self._trained.aliases, section, own, state)

    def averages(self) -> dict[str, Any]:
        """Return ``{path: slow weight}``."""
        return {path: variable.value for path, variable in self.slow.items()}
