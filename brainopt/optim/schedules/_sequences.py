# SPDX-License-Identifier: Apache-2.0
"""Schedules made of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Any, TypeAlias

import jax.numpy as jnp

from ..._typing import Array, ScalarOrSchedule
from ...errors import HyperparameterError, message
from ...runtime import depend_on
from ..hyperparameters._fields import Kept, kept
from ._counts import reached, since
from ._fields import Clock, Counter, Series, counted_by, epochs_over, series
from ._schedule import Schedule, as_schedule

Several: TypeAlias = Kept[Sequence[ScalarOrSchedule], list[Schedule]]


def as_schedules(schedules: Sequence[Any], name: str) -> list[Schedule]:
    """Return schedules made of schedules, numbers and callables."""
    if not schedules:
        raise HyperparameterError(message(f"{name}= needs one schedule at least."))
    return [as_schedule(schedule, name) for schedule in schedules]


class SequentialLR(Schedule):
    """One schedule after another, each starting at its own count 0."""

    schedules: Several = kept(
        as_schedules, doc="schedules, numbers or callables of the step"
    )
    milestones: Series = series(
        "the counts at which the next one begins, one fewer", is_increasing=True
    )
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step", "; all go by this count")
    _takes_counts = True

    def _start(self) -> None:
        milestones = self.milestones.value.tolist()
        if len(self.schedules) != len(milestones) + 1:
            raise HyperparameterError(
                message(
                    f"{len(self.schedules)} schedules for milestones {milestones}.",
                    help="give increasing milestones, one fewer than schedules.",
                )
            )

    @property
    def base(self) -> Any:
        """The base of the first schedule."""
        return self.schedules[0].base

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # All parts are evaluated, since the count is traced; those that have not begun
        # at their count 0, since a schedule need not be defined below it.
        depend_on(self.schedules[0]._revision)
        rate = jnp.asarray(self.schedules[0]._rate_of(t))
        for i, schedule in enumerate(self.schedules[1:]):
            depend_on(schedule._revision)
            start = self.milestones.value[i]
            following = schedule._rate_of(since(t, start))
            rate = jnp.where(reached(t, start), following, rate)
        return rate


class ChainedLR(Schedule):
    """The product of several schedules, as factors of their common base.

    Differs: torch applies the step of each schedule to the rate that the one before has
    left, which is the same for those that multiply; not for `LambdaLR` behind another,
    nor for a cosine whose ``eta_min`` is above 0.
    """

    schedules: Several = kept(
        as_schedules, doc="schedules that know their base rate, one at least"
    )
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step", "; all go by this count")
    _takes_counts = True

    @property
    def base(self) -> Any:
        """The base of the first schedule."""
        return self.schedules[0].base

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        rate = self.base
        for schedule in self.schedules:
            depend_on(schedule._revision)
            rate = rate * (schedule._rate_of(t) / schedule.base)
        return rate
