# SPDX-License-Identifier: Apache-2.0
"""A schedule that is driven by a metric."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from ...core import Variable
from ...errors import HyperparameterError, message
from .._fields import ANY
from ._schedule import Schedule


class ReduceLROnPlateau(Schedule):
    """A rate that falls when a metric has stopped getting better.

    ``opt.lr.step_metric(loss)`` tells it the metric, outside or inside a compiled
    function; everything it remembers is saved.

    Args:
        lr: the first rate.
        mode: ``"min"``: lower is better; ``"max"``: higher is.
        factor: what the rate is multiplied by, in (0, 1).
        patience: how many metrics in a row may be no better.
        threshold: what counts as better.
        threshold_mode: ``"rel"``: by a part of the best; ``"abs"``: by so much.
        cooldown: how many metrics are not counted after a fall.
        min_lr: the lowest rate.
        eps: the least change of the rate.

    Attributes:
        best: the best metric so far.

    Source: torch's scheduler of the same name.
    """

    ranges: ClassVar = {"factor": "(0, 1)", "threshold": ANY}

    def __init__(
        self,
        lr: Any,
        mode: Literal["min", "max"] = "min",
        factor: Any = 0.1,
        patience: Any = 10,
        threshold: Any = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: Any = 0,
        min_lr: Any = 0.0,
        eps: Any = 1e-8,
    ):
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise HyperparameterError(
                message(f"mode={mode!r}, threshold_mode={threshold_mode!r} is unknown.")
            )
        self.mode, self.threshold_mode = mode, threshold_mode
        numbers = {"lr": lr, "factor": factor, "patience": patience}
        numbers |= {"threshold": threshold, "cooldown": cooldown}
        super().__init__({**numbers, "min_lr": min_lr, "eps": eps}, clock="step")
        worst = jnp.inf if mode == "min" else -jnp.inf
        self.best = Variable(jnp.full((), worst, float))
        self.scale = Variable(jnp.ones((), float))
        self.bad = Variable(jnp.zeros((), jnp.int32))
        self.cooling = Variable(jnp.zeros((), jnp.int32))

    @property
    def current(self) -> Any:
        """The rate now."""
        return self.lr * self.scale.value

    def rate(self, t: Any) -> Any:
        """Return the rate now; it does not depend on the count."""
        return self.current

    def step_metric(self, metric: Any) -> None:
        """Take in a metric, a real number; NaN counts as no better."""
        best, metric = (
            self.best.value,
            jnp.asarray(metric).astype(self.best.value.dtype),
        )
        better = self._is_better(metric, best)
        cooling = self.cooling.value
        bad = jnp.where(better, 0, self.bad.value + 1)
        bad = jnp.where(cooling > 0, 0, bad)
        falls = bad > self.patience
        lower = jnp.maximum(self.current * self.factor, self.min_lr)
        moves = falls & (self.current - lower > self.eps)
        scale = jnp.where(moves, lower / self.lr, self.scale.value)
        rest = jnp.maximum(cooling - 1, 0)
        cooling = jnp.where(falls, self.cooldown.astype(jnp.int32), rest)
        self.best.value = jnp.where(better, metric, best)
        self.scale.value = scale.astype(self.scale.value.dtype)
        self.bad.value = jnp.where(falls, 0, bad).astype(jnp.int32)
        self.cooling.value = cooling.astype(jnp.int32)

    def _is_better(self, metric: Any, best: Any) -> Any:
        sign = 1 if self.mode == "max" else -1
        by = self.threshold
        if self.threshold_mode == "rel":
            return jnp.where(
                jnp.isinf(best),
                sign * metric > sign * best,
                sign * metric > sign * best * (1 + sign * by),
            )
        return sign * metric > sign * best + by
