# SPDX-License-Identifier: Apache-2.0
"""Schedules that rise from a small rate."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, Literal, TypeAlias, get_args

import jax.numpy as jnp

from ..._typing import Array, ScalarOrSchedule
from ...runtime import depend_on
from ..hyperparameters._fields import Kept, Number, kept, number, one_of, required
from ._counts import since
from ._fields import Clock, Counter, counted_by, epochs_over
from ._schedule import Schedule, as_schedule

Following: TypeAlias = Kept[ScalarOrSchedule, Schedule]
Rise = Literal["linear", "cosine", "constant"]
Fall = Literal["linear", "cosine", "sqrt"]


class LinearLR(Schedule):
    r"""A factor that goes in a straight line from one value to another, then stays."""

    lr: Number = required(doc="the rate at factor 1")
    start_factor: Number = number(1 / 3, doc="the first factor")
    end_factor: Number = number(1.0, doc="the last factor")
    total_iters: Number = number(5, doc="how long it takes", range="(0, inf)")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        part = jnp.minimum(t / self.total_iters, 1)
        change = self.end_factor - self.start_factor
        return self.lr * (self.start_factor + change * part)


class Warmup(Schedule):
    r"""Any schedule, after a rise to its first rate."""

    schedule: Following = kept(
        as_schedule, doc="what follows: a schedule, a number, or a callable of the step"
    )
    warmup_steps: Number = required(
        doc="updates of the rise; then ``schedule`` starts at its own count 0"
    )
    start_factor: Number = number(0.0, doc="the first factor", range="[0, 1]")
    mode: Rise = one_of("linear", get_args(Rise), "the curve of the rise")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step", "; what follows goes by the same count")
    _takes_counts = True

    @property
    def base(self) -> Any:
        """The base of the schedule after the rise."""
        return self.schedule.base

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # What follows is held at its count 0 during the rise, so that the product rises
        # to exactly its first rate. A rise of 0 updates must not divide by 0.
        depend_on(self.schedule._revision)
        following = self.schedule._rate_of(since(t, self.warmup_steps))
        t = t.astype(self.warmup_steps.dtype)
        part = jnp.clip(t / jnp.maximum(self.warmup_steps, 1), 0, 1)
        if self.mode == "cosine":
            part = (1 - jnp.cos(jnp.pi * part)) / 2
        elif self.mode == "constant":
            part = jnp.zeros_like(part)
        factor = self.start_factor + (1 - self.start_factor) * part
        return following * jnp.where(t < self.warmup_steps, factor, 1)


class NoamLR(Schedule):
    r"""A linear rise, then a fall with the root of the count.

    .. math:: \gamma_t = \gamma \, d^{-1/2} \min(n^{-1/2}, \; n \, w^{-3/2}),
              \qquad n = t + 1

    Source: Vaswani et al. 2017, Attention Is All You Need, equation 3.
    """

    d_model: Number = required("d", "the width of the model", "(0, inf)")
    warmup_steps: Number = required("w", "updates of the rise", "(0, inf)")
    lr: Number = number(1.0, r"\gamma", "a factor")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # The paper counts from 1; 0 would have an infinite power.
        n = t + 1
        rise = n * self.warmup_steps**-1.5
        return self.lr * self.d_model**-0.5 * jnp.minimum(n**-0.5, rise)


class WarmupStableDecay(Schedule):
    r"""A linear rise, a plateau, and a fall.

    Source: Hu et al. 2024, MiniCPM, equation 1; Hägele et al. 2024 for ``"sqrt"``.
    """

    lr: Number = required(doc="the rate of the plateau")
    warmup_steps: Number = required(doc="updates of the rise")
    stable_steps: Number = required(doc="updates of the plateau")
    decay_steps: Number = required(doc="updates of the fall")
    start_factor: Number = number(0.0, doc="the first factor", range="[0, 1]")
    end_factor: Number = number(0.0, doc="the last factor", range="[0, 1]")
    shape: Fall = one_of("linear", get_args(Fall), "of the fall; sqrt is 1 - √")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        up = jnp.clip(t / jnp.maximum(self.warmup_steps, 1), 0, 1)
        rise = jnp.where(
            t < self.warmup_steps, self.start_factor + (1 - self.start_factor) * up, 1
        )
        # Rise and fall are factors of the rate; on the plateau both are 1.
        over = t - self.warmup_steps - self.stable_steps
        part = jnp.clip(over / jnp.maximum(self.decay_steps, 1), 0, 1)
        fall = 1 - (1 - self.end_factor) * _FALLS[self.shape](part)
        return self.lr * rise * fall


_FALLS = {
    "linear": lambda part: part,
    "cosine": lambda part: (1 - jnp.cos(jnp.pi * part)) / 2,
    "sqrt": jnp.sqrt,
}
