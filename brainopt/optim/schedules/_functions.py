# SPDX-License-Identifier: Apache-2.0
"""Schedules whose factor is a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..._typing import Array
from ..hyperparameters._fields import Number, as_given, kept, required
from ._fields import Clock, Counter, counted_by, epochs_over
from ._schedule import Schedule, refuse_negative

Factor: TypeAlias = Callable[[Any], Any]
_TOTAL = (
    "how many factors there are; afterwards the rate stays. The product is taken anew "
    "each time, so that the rate is a function of the count alone"
)


def _whole(value: Any, name: str) -> int:
    return int(value)


class LambdaLR(Schedule):
    """A rate times a function of the count."""

    lr: Number = required(doc="the rate at factor 1")
    lr_lambda: Factor = kept(
        as_given, doc="from a 0-d array, the count, to a factor; of JAX functions"
    )
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def _start(self) -> None:
        refuse_negative(self.lr_lambda, "lr_lambda of this LambdaLR")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.lr_lambda(t)


class MultiplicativeLR(Schedule):
    """A rate that is multiplied, each time, by a function of the count.

    Differs: torch goes on multiplying; here the rate stays after ``total_iters``
    counts.
    """

    lr: Number = required(doc="the first rate")
    lr_lambda: Factor = kept(
        as_given, doc="from a count, 1 and up, to a factor; of JAX functions"
    )
    total_iters: int = kept(_whole, default=1000, doc=_TOTAL)
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def _start(self) -> None:
        refuse_negative(self.lr_lambda, "lr_lambda of this MultiplicativeLR", 1)

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # All factors are computed, since their number is fixed in a trace; those of
        # later counts are replaced by 1.
        counts = jnp.arange(1, self.total_iters + 1, dtype=t.dtype)
        factors = jax.vmap(self.lr_lambda)(counts)
        return self.lr * jnp.prod(jnp.where(counts <= t, factors, 1))
