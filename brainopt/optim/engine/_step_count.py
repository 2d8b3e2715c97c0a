# SPDX-License-Identifier: Apache-2.0
"""``opt.step``: the count of updates, which is also called to take one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...core import Variable
from ...errors import GradientError, message


class Step(Variable):
    """The updates done, an int32 that stops at 2³¹-1; ``opt.step(closure)`` takes one.

    BrainPy reads ``opt.step`` as a number and torch calls it; here both work.
    """

    # Set by `Optimizer.step` at each access: an optimizer that was copied, or rebuilt
    # from its pytree, must step itself and not the one it was made from.
    __slots__ = ("_optimizer",)

    def __call__(self, closure: Any = None) -> Any:
        """Compute the gradients of ``closure``, take one step, return its result.

        Args:
            closure: takes no argument, reads the trained variables, returns the loss
                (a real 0-d array) or a tuple that starts with it; or a dict of
                gradients, as braintools has it.

        Raises:
            GradientError: there is no closure, or it returns no loss.
        """
        if isinstance(closure, dict):
            return self._optimizer.update(closure)
        if not callable(closure):
            raise GradientError(
                message(
                    "opt.step() takes a function that returns the loss.",
                    help="gradients are values here: opt.update(grads), or "
                    "opt.step(lambda: loss).",
                )
            )
        return self._optimizer._step_by(closure)


def zero_count() -> jax.Array:
    """Return the count before the first update."""
    return jnp.zeros((), jnp.int32)
