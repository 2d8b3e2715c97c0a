# SPDX-License-Identifier: Apache-2.0
"""A running average whose sums are Variables."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._typing import ArrayLike
from ..runtime import exclusive
from ._node import Node
from ._operators import unwrap
from ._variable import Variable


class Average(Node):
    """The weighted mean of all numbers since the last `reset`.

    Its sums are Variables, so it is compiled into a step, saved with the run, and read
    only when somebody asks for the mean.

    Args:
        name: a display name.

    Attributes:
        total: the weighted sum, a float Variable.
        weight: the sum of the weights, a float Variable.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> accuracy = bo.Average()
        >>> @bo.jit
        ... def evaluate(predicted, wanted):
        ...     accuracy.add(predicted == wanted)
        >>> evaluate(jnp.array([1, 2]), jnp.array([1, 0]))
        >>> evaluate(jnp.array([3, 3]), jnp.array([3, 3]))
        >>> float(accuracy.mean())
        0.75

    Differs: the sum of ``n`` numbers of float32 is kept with a second Variable for what
    rounding cut off (Kahan 1965), so that it does not stall at 2²⁴ numbers.
    """

    def __init__(self, name: str | None = None):
        super().__init__(name)
        self.total = Variable((), float)
        self.weight = Variable((), float)
        self.rounding = Variable((2,), float)

    def add(self, values: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Take more numbers in.

        Args:
            values: numbers or bools, any shape.
            weight: of each number, of a shape that fits; default 1.
        """
        values = jnp.asarray(unwrap(values)).astype(self.total.dtype)
        weights = jnp.asarray(1.0 if weight is None else unwrap(weight), values.dtype)
        weights = jnp.broadcast_to(weights, values.shape)
        more = jnp.stack([(values * weights).sum(), weights.sum()])
        with exclusive():
            self._take(more)

    def _take(self, more: jax.Array) -> None:
        held = jnp.stack([self.total.value, self.weight.value])
        # The barrier keeps the compiler from cancelling what is the rounding itself.
        # Kahan's sum: what rounding added last time is taken off this time.
        more = more - self.rounding.value
        new = jax.lax.optimization_barrier(held + more)
        self.rounding.value = jax.lax.optimization_barrier(new - held) - more
        self.total.value, self.weight.value = new[0], new[1]

    def mean(self) -> jax.Array:
        """Return the weighted mean, a 0-d array; NaN before the first number."""
        return self.total.value / self.weight.value
