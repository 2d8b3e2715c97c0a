# SPDX-License-Identifier: Apache-2.0
"""Schedules made of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from ...errors import HyperparameterError, message
from ...runtime import depend_on
from ._schedule import Clock, Schedule, as_schedule


class SequentialLR(Schedule):
    """One schedule after another, each starting at its own count 0.

    Args:
        schedules: schedules, numbers or callables of the step.
        milestones: the counts at which the next one begins, one fewer.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`; all go
            by this count.
    """

    def __init__(
        self,
        schedules: Sequence[Any],
        milestones: Sequence[Any],
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        if len(schedules) != len(milestones) + 1 or list(milestones) != sorted(
            milestones
        ):
            raise HyperparameterError(
                message(
                    f"{len(schedules)} schedules for milestones {list(milestones)}.",
                    help="give increasing milestones, one fewer than schedules.",
                )
            )
        self.schedules = [as_schedule(s, "SequentialLR") for s in schedules]
        numbers = {f"milestone{i}": count for i, count in enumerate(milestones)}
        super().__init__(numbers, last_epoch, clock)

    @property
    def base(self) -> Any:
        """The base of the first schedule."""
        return self.schedules[0].base

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        depend_on(self.schedules[0]._revision)
        rate = jnp.asarray(self.schedules[0].rate(t))
        for i, schedule in enumerate(self.schedules[1:]):
            depend_on(schedule._revision)
            start = self.numbers.value[i]
            rate = jnp.where(t < start, rate, schedule.rate(jnp.maximum(t - start, 0)))
        return rate


class ChainedLR(Schedule):
    """The product of several schedules, as factors of their common base.

    Args:
        schedules: schedules that know their base rate.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`; all go
            by this count.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        if not schedules:
            raise HyperparameterError(message("A chain needs schedules."))
        self.schedules = [as_schedule(s, "ChainedLR") for s in schedules]
        super().__init__({}, last_epoch, clock)

    @property
    def base(self) -> Any:
        """The base of the first schedule."""
        return self.schedules[0].base

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        rate = self.base
        for schedule in self.schedules:
            depend_on(schedule._revision)
            rate = rate * (schedule.rate(t) / schedule.base)
        return rate
