# SPDX-License-Identifier: Apache-2.0
"""A schedule that is driven by a metric."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax.numpy as jnp

from ... import runtime
from ..._typing import Array, Scalar
from ...core import Variable
from ..engine._missed import next_step
from ..hyperparameters._fields import ANY, Number, number, one_of, required
from ._fields import counted_by
from ._schedule import Schedule

Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]


class ReduceLROnPlateau(Schedule):
    """A rate that falls when a metric has stopped getting better.

    ``opt.lr.step_metric(loss)`` passes the metric, outside or inside a compiled
    function; its whole state is saved.

    Attributes:
        best: the best metric so far.

    Source: torch's scheduler of the same name.
    """

    lr: Number = required(doc="the first rate")
    mode: Mode = one_of("min", get_args(Mode), "whether lower or higher is better")
    factor: Number = number(0.1, doc="what the rate is multiplied by", range="(0, 1)")
    patience: Number = number(10, doc="how many metrics in a row may be no better")
    threshold: Number = number(1e-4, doc="what counts as better", range=ANY)
    threshold_mode: ThresholdMode = one_of(
        "rel", get_args(ThresholdMode), "by a part of the best, or by so much"
    )
    cooldown: Number = number(0, doc="how many metrics are not counted after a fall")
    min_lr: Number = number(0.0, doc="the lowest rate")
    eps: Number = number(1e-8, doc="the least change of the rate")
    clock = counted_by("step")

    def _start(self) -> None:
        worst = jnp.inf if self.mode == "min" else -jnp.inf
        self.best = Variable(jnp.full((), worst, float))
        self.scale = Variable(jnp.ones((), float))
        self.bad = Variable(jnp.zeros((), jnp.int32))
        self.cooling = Variable(jnp.zeros((), jnp.int32))

    @property
    def current(self) -> Any:
        """The rate now."""
        return self.lr * self.scale.value

    def rate(self, t: Array) -> Array:
        """Return the rate now; it does not depend on the count."""
        return self.current

    def step_metric(self, metric: Scalar) -> None:
        """Update the rate by a metric, a real number; NaN counts as no better."""
        with runtime.exclusive():
            self._take(metric)

    def _take(self, metric: Scalar) -> None:
        best = self.best.value
        found = jnp.asarray(metric).astype(best.dtype)
        # The order is torch's: count, discard what falls into the cooldown, then lower.
        # The rate is kept as a factor of ``lr``, so that ``schedule.lr = x`` rescales
        # it.
        better = self._is_better(found, best)
        cooling = self.cooling.value
        bad = jnp.where(better, 0, next_step(self.bad.value))
        bad = jnp.where(cooling > 0, 0, bad)
        falls = bad > self.patience
        lower = jnp.maximum(self.current * self.factor, self.min_lr)
        moves = falls & (self.current - lower > self.eps)
        scale = jnp.where(moves, lower / self.lr, self.scale.value)
        rest = jnp.maximum(cooling - 1, 0)
        cooling = jnp.where(falls, self.cooldown.astype(jnp.int32), rest)
        self.best.value = jnp.where(better, found, best)
        self.scale.value = scale.astype(self.scale.value.dtype)
        self.bad.value = jnp.where(falls, 0, bad).astype(jnp.int32)
        self.cooling.value = cooling.astype(jnp.int32)

    def _is_better(self, metric: Array, best: Array) -> Array:
        sign = 1 if self.mode == "max" else -1
        by = self.threshold
        if self.threshold_mode == "rel":
            return jnp.where(
                jnp.isinf(best),
                sign * metric > sign * best,
                sign * metric > sign * best * (1 + sign * by),
            )
        return sign * metric > sign * best + by
