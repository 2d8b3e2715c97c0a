# SPDX-License-Identifier: Apache-2.0
"""Schedules that fall: in steps, exponentially, by powers."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from ..._typing import Array
from ...errors import HyperparameterError, message
from ..hyperparameters._fields import Number, number, one_of, required
from ._counts import divided, reached
from ._fields import (
    Clock,
    Counter,
    Series,
    counted_by,
    epochs_over,
    series,
    updates_over,
)
from ._schedule import Schedule

_STAIRCASE = "fall at whole multiples of ``decay_steps`` only"


class StepLR(Schedule):
    r"""A rate that is multiplied by gamma every so many epochs.

    .. math:: \gamma_t = \gamma_0 \, g^{\lfloor t / s \rfloor}
    """

    lr: Number = required(r"\gamma_0", "the first rate")
    step_size: Number = required("s", range="[1, inf)")
    gamma: Number = number(0.1, "g", range="(0, inf)")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("epoch")
    _takes_counts = True

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.gamma ** divided(t, self.step_size)[0]


class MultiStepLR(Schedule):
    r"""A rate that is multiplied by gamma at each milestone.

    Differs: brainpy multiplies one epoch later; torch as here.
    """

    lr: Number = required(doc="the first rate")
    milestones: Series = series("when, increasing", is_increasing=True)
    gamma: Number = number(0.1, range="(0, inf)")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("epoch")
    _takes_counts = True

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # Without a branch on the count: it is traced.
        passed = reached(t, self.milestones.value).sum()
        return self.lr * self.gamma ** passed.astype(self.gamma.dtype)


class ExponentialLR(Schedule):
    r"""A rate that is multiplied by gamma each epoch: :math:`\gamma_0 \, g^t`."""

    lr: Number = required(r"\gamma_0", "the first rate")
    gamma: Number = required("g", range="(0, inf)")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("epoch")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.gamma**t


class ExponentialDecayLR(Schedule):
    r"""Exponential decay by updates: :math:`\gamma_0 \, r^{t / s}`."""

    lr: Number = required(r"\gamma_0", "the first rate")
    decay_steps: Number = required("s", range="(0, inf)")
    decay_rate: Number = required("r", range="(0, inf)")
    last_epoch: Counter = epochs_over()
    last_call: Counter = updates_over()
    _: KW_ONLY
    staircase: bool = one_of(False, (False, True), _STAIRCASE)
    clock: Clock = counted_by("step")
    _takes_counts = True

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.decay_rate ** _stairs(t, self)


class InverseTimeDecayLR(Schedule):
    r"""Decay with time: :math:`\gamma_0 / (1 + r \, t / s)`."""

    lr: Number = required(r"\gamma_0", "the first rate")
    decay_steps: Number = required("s", range="(0, inf)")
    decay_rate: Number = required("r")
    staircase: bool = one_of(False, (False, True), _STAIRCASE)
    last_epoch: Counter = epochs_over()
    last_call: Counter = updates_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")
    _takes_counts = True

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr / (1 + self.decay_rate * _stairs(t, self))


class PolynomialDecayLR(Schedule):
    r"""Down to a last rate by a power of the time that is left.

    .. math:: \gamma_t = (\gamma_0 - \gamma_T) (1 - \min(t, T) / T)^p + \gamma_T
    """

    lr: Number = required(r"\gamma_0", "the first rate")
    decay_steps: Number = required("T", range="(0, inf)")
    final_lr: Number = required(r"\gamma_T", "the last rate")
    power: Number = number(1.0, "p", range="(0, inf)")
    last_epoch: Counter = epochs_over()
    last_call: Counter = updates_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # Beyond T the base would be negative, and NaN with a power that is not whole.
        left = 1 - jnp.minimum(t / self.decay_steps, 1)
        return (self.lr - self.final_lr) * left**self.power + self.final_lr


class PiecewiseConstantLR(Schedule):
    """One rate after another.

    Differs: brainpy changes one count later; optax as here.
    """

    boundaries: Series = series(
        "the counts at which the next rate begins, increasing", is_increasing=True
    )
    values: Series = series("the rates, one more than boundaries", "[0, inf)")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("epoch")
    _takes_counts = True

    def _start(self) -> None:
        rates, boundaries = len(self.values.value), len(self.boundaries.value)
        if rates != boundaries + 1:
            raise HyperparameterError(
                message(f"{rates} rates for {boundaries} boundaries.")
            )

    @property
    def base(self) -> Any:
        """The first rate."""
        return self.values.value[0]

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.values.value[reached(t, self.boundaries.value).sum()]


def _stairs(t: Any, schedule: Any) -> Any:
    if schedule.staircase:
        return divided(t, schedule.decay_steps)[0]
    return t.astype(schedule.decay_steps.dtype) / schedule.decay_steps
