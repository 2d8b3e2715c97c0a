# SPDX-License-Identifier: Apache-2.0
"""SAM: gradients from where the loss is worst nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, SupportsFloat

import jax
import jax.numpy as jnp

from ... import runtime
from ..._typing import Gradients
from ...errors import GradientError, message
from ...runtime import depend_on
from .._closure import Loss
from .._swapping import Swapped
from ..engine._gradients import global_norm
from ..engine._squares import shrunk
from ..engine._tree import named, uphill
from ..hyperparameters._fields import number
from ._wrapper import OptimizerWrapper


class SAM(OptimizerWrapper):
    r"""Sharpness-aware steps: their gradient is that of the worst point nearby.

    .. math:: \theta' = \theta + \rho \, g / \|g\|, \qquad
              \text{then a step from } \theta \text{ with the gradient at } \theta'

    Args:
        optimizer: takes the steps, in place; its settings are set on it.
        rho: :math:`\rho` in [0, inf), the radius; ``sam.rho = 0.1`` changes it without
            compiling.
        adaptive: measure the radius in units of each weight (ASAM).
        name: a display name.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0])
        >>> sam = bo.optim.SAM(bo.optim.SGD(0.1, w), rho=0.5)
        >>> float(sam.step(lambda: (w**2).sum())), w.value.round(3).tolist()
        (1.0, [0.7...])

    Source: Foret et al. 2021, Sharpness-Aware Minimization, equation 2; Kwon et al.
    2021, ASAM, for ``adaptive``.
    """

    rho = number()

    def __init__(
        self,
        optimizer: Any,
        rho: SupportsFloat = 0.05,
        adaptive: bool = False,
        name: str | None = None,
    ):
        self._keep_numbers({"rho": float(rho)})
        super().__init__(optimizer, name)
        self.adaptive = bool(adaptive)

    def update(self, grads: Gradients, **options: Any) -> NoReturn:
        """Raise a GradientError: gradients alone do not say where the loss is worst."""
        raise GradientError(
            message(
                f"{type(self).__name__} cannot step by gradients alone: it takes those "
                "of the loss at a second place.",
                help="give it the loss, sam.step(closure); where a trainer calls "
                "update, as bp.BPTT does, give that the optimizer inside.",
            )
        )

    def step(self, closure: Callable[[], object]) -> Any:
        """Take one step on a loss; return the first result of ``closure``.

        Args:
            closure: takes no argument, reads the trained variables, returns the loss
                (a real 0-d array) or a tuple that starts with it. It runs twice; what
                it writes is kept from the second run.
        """
        depend_on(self._revision)
        trained = self._trained
        trained.require(type(self.optimizer).__name__)
        # All of it: other threads must not step from the worst point.
        with runtime.exclusive():
            return self._step_exclusively(closure)

    def _step_exclusively(self, closure: Callable[[], Any]) -> Any:
        trained = self._trained
        kept = Swapped({v: runtime.read(v) for v in trained.variables.values()})
        # What the closure writes in the first run is dropped: a random state advanced,
        # or batch statistics updated twice in a step would differ from other
        # optimizers.
        scale = self.scale_loss
        out, grads = Loss(closure, trained, scale).gradients(keep=False)
        with kept:
            worst = self._worst(trained.values(), self._slopes(grads))
            places = [trained.variables[path] for path in worst]
            runtime.commit(places, list(worst.values()))
            _, grads = Loss(closure, trained, scale).gradients()
        # The variables are back at θ before the step, so decay and moments are those of
        # θ.
        self.optimizer.update(grads)
        return out

    def _slopes(self, grads: Gradients) -> Any:
        """Return the directions in which the objective grows worse, 0 where frozen."""
        sign = -1 if self.maximize else 1
        slopes = [
            jnp.zeros_like(g) if path in self.frozen else sign * uphill(g)
            for path, g in named(grads)
        ]
        return jax.tree.unflatten(jax.tree.structure(grads), slopes)

    def _worst(self, params: Any, grads: Gradients) -> Any:
        # ASAM with T = |θ|: the move is ρ T² g / ‖T g‖, so T is applied before the norm
        # and once more after it.
        scale = jax.tree.map(jnp.abs, params) if self.adaptive else None
        if scale is not None:
            grads = jax.tree.map(jnp.multiply, grads, scale)
        grads, _ = shrunk(grads)
        norm = global_norm(grads)
        tiny = jnp.finfo(norm.dtype).tiny
        by = self.rho / jnp.maximum(norm, tiny)
        if scale is not None:
            grads = jax.tree.map(jnp.multiply, grads, scale)
        return jax.tree.map(lambda p, g: p + (by * g).astype(p.dtype), params, grads)
