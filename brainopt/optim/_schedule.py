# SPDX-License-Identifier: Apache-2.0
"""Schedules: a learning rate as a function of a counted step."""

from __future__ import annotations

import abc
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ..core import Node, Variable
from ..errors import HyperparameterError, message
from ._numbers import Numbered, Numbers, scalar


class Schedule(Numbered, Node, abc.ABC):
    """Abstract: a pure function of a step, with its numbers as runtime inputs.

    Args:
        numbers: the numbers of the formula, by name; ``schedule.lr = 0.1`` changes
            one without recompiling.
        last_epoch: the epochs that are over, minus one.
        clock: what the schedule counts: ``"step"``, the updates that its optimizer has
            done, or ``"epoch"``, the calls of `step_epoch`.

    Raises:
        HyperparameterError: a number is out of range.
    """

    def __init__(
        self,
        numbers: dict[str, Any],
        last_epoch: int = -1,
        clock: Literal["step", "epoch"] = "epoch",
    ):
        if clock not in ("step", "epoch"):
            raise HyperparameterError(
                message(f"clock={clock!r}.", help="'step' or 'epoch'.")
            )
        values = {name: scalar(value, name) for name, value in numbers.items()}
        self.numbers = Numbers(values, owner=type(self).__name__)
        self.clock = clock
        self.last_epoch = Variable(jnp.asarray(last_epoch, jnp.int32))

    @abc.abstractmethod
    def rate(self, t: Any) -> Any:
        """Return the learning rate after ``t`` steps or epochs (a float array)."""

    def at(self, step: Any) -> Any:
        """Return the learning rate of the update that follows ``step`` updates."""
        t = step if self.clock == "step" else self.last_epoch.value + 1
        return self.rate(jnp.asarray(t).astype(self.numbers.value.dtype))

    def __call__(self, i: Any = None) -> Any:
        """Return the learning rate after ``i`` steps, or at the current epoch."""
        t = self.last_epoch.value + 1 if i is None else i
        return self.rate(jnp.asarray(t).astype(self.numbers.value.dtype))

    def step_epoch(self) -> None:
        """Count one epoch."""
        self.last_epoch.value = self.last_epoch.value + 1


class Constant(Schedule):
    """The same learning rate for ever.

    Args:
        lr: the learning rate, or a Variable that holds it.
    """

    def __init__(self, lr: Any):
        if isinstance(lr, Variable):
            super().__init__({}, clock="step")
            self.variable = lr
        else:
            super().__init__({"lr": lr}, clock="step")

    def rate(self, t: Any) -> Any:
        """Return ``lr``."""
        return self.variable.value if "variable" in self.__dict__ else self.lr

    def set_value(self, lr: Any) -> None:
        """Change the learning rate."""
        if "variable" in self.__dict__:
            self.variable.value = lr
        else:
            self.lr = lr


class CosineAnnealingLR(Schedule):
    r"""Half a cosine wave from ``lr`` down to ``eta_min``, then ``eta_min``.

    .. math:: \eta_t = \eta_{min} + (\eta_0 - \eta_{min})
              \, (1 + \cos(\pi \min(t, T) / T)) / 2

    Args:
        lr: :math:`\eta_0`, the first learning rate.
        T_max: :math:`T`, where the minimum is reached.
        eta_min: :math:`\eta_{min}`, the last learning rate.
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.

    Source: Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.
    Differs: brainpy and torch swing up again after ``T_max``.
    """

    def __init__(
        self,
        lr: Any,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        clock: Literal["step", "epoch"] = "epoch",
    ):
        if not T_max > 0:
            raise HyperparameterError(message(f"T_max={T_max} is not above 0."))
        super().__init__(
            {"lr": lr, "T_max": T_max, "eta_min": eta_min}, last_epoch, clock
        )

    def rate(self, t: Any) -> Any:
        """Return the learning rate after ``t`` steps or epochs."""
        wave = (1 + jnp.cos(jnp.pi * jnp.minimum(t, self.T_max) / self.T_max)) / 2
        return self.eta_min + (self.lr - self.eta_min) * wave


class Function(Schedule):
    """A schedule from any callable of the step, such as those of optax."""

    def __init__(self, function: Any):
        super().__init__({}, clock="step")
        self.function = function

    def at(self, step: Any) -> Any:
        """Return ``function(step)``, with the integer step."""
        return self.function(step)

    def rate(self, t: Any) -> Any:
        """Return ``function(t)``."""
        return self.function(t)


def as_schedule(lr: Any) -> Schedule:
    """Return ``lr`` as a schedule: a number, array, Variable, schedule or callable."""
    if isinstance(lr, Schedule):
        return lr
    if isinstance(lr, Variable) or not callable(lr):
        return Constant(lr)
    if isinstance(lr, jax.Array):
        return Constant(lr)
    return Function(lr)
