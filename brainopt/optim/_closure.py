# SPDX-License-Identifier: Apache-2.0
"""A loss without arguments as a pure function of the trained variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import runtime
from .._dtypes import is_numeric
from .._typing import PyTree
from ..core import unwrap
from ..errors import GradientError, message
from ._parameters import TrainedVariables


def step_by(self: Any, closure: Callable[[], object]) -> Any:
    """Take one step of an optimizer on the loss of ``closure``; return its result."""
    self._trained.require(type(self).__name__)
    out, grads = Loss(closure, self._trained, self.scale_loss).gradients()
    self.update(grads)
    return out


class Loss:
    """A closure that reads the trained variables and returns the loss.

    Args:
        closure: takes no argument; returns a real 0-d loss, or ``(loss, aux)``.
        trained: the variables to differentiate by.
        scale: from the loss to what is differentiated.
    """

    def __init__(
        self,
        closure: Callable[[], object],
        trained: TrainedVariables,
        scale: Callable[[Any], Any] = lambda loss: loss,
    ):
        self._closure = closure
        self._scale = scale
        self._trained = trained
        self._written: tuple[Any, ...] = ()

    def __call__(self, params: dict[str, Any]) -> tuple[Any, Any]:
        """Return the loss at ``params``, the result of the closure, and its writes."""
        variables = self._trained.variables
        # The frame gives the closure the traced parameters and stops its writes, which
        # leave the trace as auxiliary results. So no tracer reaches a Variable.
        with runtime.Frame([(variables[p], v) for p, v in params.items()]) as frame:
            out = jax.tree.map(unwrap, self._closure(), is_leaf=_is_variable)
            self._written = frame.effects().written
            values = [frame.values[v] for v in self._written]
        return self._scale(_checked(loss_of(out))), (out, values)

    def gradients(self, keep: bool = True) -> tuple[Any, dict[str, Any]]:
        """Return the result of the closure, and the gradients.

        Args:
            keep: whether to keep the values that the closure wrote.
        """
        params = self._trained.values()
        (_, (out, values)), grads = jax.value_and_grad(self, has_aux=True)(params)
        if keep:
            self.keep(values)
        return out, grads

    def keep(self, values: PyTree) -> None:
        """Commit the writes of the last run of the closure."""
        runtime.commit(self._written, values)


def _checked(loss: Any) -> jax.Array:
    returned = "nothing" if loss is None else f"a {type(loss).__name__}"
    if is_numeric(loss):
        loss = jnp.asarray(loss)
        if loss.shape == () and jnp.issubdtype(loss.dtype, jnp.floating):
            return loss
        returned = f"{loss.dtype} {loss.shape}"
    raise GradientError(
        message(
            f"The closure returned {returned}, no loss.",
            help="return one real number, or a tuple that starts with it.",
        )
    )


def loss_of(out: PyTree) -> Any:
    """Return the loss in the result of a closure."""
    return out[0] if isinstance(out, tuple) else out


def _is_variable(x: Any) -> bool:
    return hasattr(type(x), "__jax_array__")
