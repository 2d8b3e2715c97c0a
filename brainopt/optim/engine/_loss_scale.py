# SPDX-License-Identifier: Apache-2.0
"""Loss scaling: gradients of float16 kept away from 0 by a factor of the loss.

The gradient of a loss times s is s times the gradient, so that a small one does not
round to 0 in float16. `Unscale` divides by s in float32, before all other stages. A
step that overflows is not taken, and s falls; after many finite ones it grows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ...errors import HyperparameterError, message
from ._gradients import all_finite
from ._missed import next_step
from ._rows import Rows, row_values
from ._stages import Flow, Stage, State


@dataclasses.dataclass(frozen=True)
class LossScale:
    """The settings of a dynamic loss scale, for ``loss_scale=`` of an optimizer.

    The scale itself is state of the optimizer, ``opt.counters["loss_scale"]``, and is
    saved with it. With both factors 1 it stays as it is.

    Args:
        initial: the first scale, in (0, inf).
        growth_factor: of the scale after ``growth_interval`` finite gradients in a
            row, in [1, inf).
        backoff_factor: of the scale after a gradient that is not finite, in (0, 1].
        growth_interval: a whole number in [1, inf).
        minimum: the scale does not fall below it, in (0, inf).

    Raises:
        HyperparameterError: listing every number out of its range.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar(jnp.ones(2, jnp.float16))
        >>> scale = bo.optim.LossScale(initial=2.0**10)
        >>> opt = bo.optim.SGD(0.5, w, loss_scale=scale, precision="master")
        >>> loss = lambda: (w.value.astype(float) ** 2).sum()
        >>> opt.update(bo.grad(lambda: opt.scale_loss(loss()), w)())
        >>> w.value.tolist(), float(opt.metrics()["loss_scale"])
        ([0.0, 0.0], 1024.0)

    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.2; the
    defaults and the rule of growth are those of torch's ``GradScaler``.
    Differs: torch has no ``minimum``; jmp has one of 1, as here.
    """

    initial: float = 2.0**16
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    minimum: float = 1.0

    def __post_init__(self) -> None:
        whole = isinstance(self.growth_interval, int)
        fine = {
            "initial": (0 < self.initial < float("inf"), "(0, inf)"),
            "growth_factor": (1 <= self.growth_factor < float("inf"), "[1, inf)"),
            "backoff_factor": (0 < self.backoff_factor <= 1, "(0, 1]"),
            "growth_interval": (whole and self.growth_interval >= 1, "1, 2, …"),
            "minimum": (0 < self.minimum < float("inf"), "(0, inf)"),
        }
        problems = [
            f"{name}={getattr(self, name)!r} is not in {range_}"
            for name, (is_fine, range_) in fine.items()
            if not is_fine
        ]
        if problems:
            raise HyperparameterError(
                message("These settings of LossScale are out of range:", problems)
            )


class Unscale(Stage):
    """Divides gradients by the loss scale, and adjusts the scale.

    Args:
        settings: of the scale.
    """

    counters: ClassVar = {"loss_scale": float, "finite_in_a_row": jnp.int32}

    def __init__(self, settings: LossScale):
        self.settings = settings

    def first(self) -> dict[str, Any]:
        """Return the first scale, and the count 0."""
        return {**super().first(), "loss_scale": jnp.asarray(self.settings.initial)}

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the next scale, and the gradients of the loss itself."""
        if not flow.grads:
            return state, flow
        scale, row = state["counters.loss_scale"], state["counters.finite_in_a_row"]
        grads = jax.tree.map(lambda g: _divided(g, scale), flow.grads, is_leaf=_is_rows)
        scale, row = self._next(all_finite(row_values(flow.grads)), scale, row)
        state = {
            **state,
            "counters.loss_scale": scale,
            "counters.finite_in_a_row": row,
        }
        return state, flow._replace(grads=grads)

    def _next(self, is_finite: Any, scale: Any, row: Any) -> tuple[Any, Any]:
        by = self.settings
        row = jnp.where(is_finite, next_step(row), 0)
        grows = row >= by.growth_interval
        larger = scale * by.growth_factor
        # torch: a scale that would become infinite stays.
        larger = jnp.where(grows & jnp.isfinite(larger), larger, scale)
        smaller = jnp.maximum(scale * by.backoff_factor, min(by.minimum, by.initial))
        return jnp.where(is_finite, larger, smaller), jnp.where(grows, 0, row)


def _divided(grad: Any, scale: Any) -> Any:
    if isinstance(grad, Rows):
        return Rows(grad.indices, _divided(grad.values, scale))
    return grad / scale.astype(jnp.finfo(grad.dtype).dtype)


def _is_rows(x: Any) -> bool:
    return isinstance(x, Rows)
