# SPDX-License-Identifier: Apache-2.0
"""Schedules whose factor is a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._schedule import Clock, Schedule


class LambdaLR(Schedule):
    """A rate times a function of the count.

    Args:
        lr: the rate at factor 1.
        lr_lambda: from a 0-d array, the count, to a factor; of JAX functions.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    def __init__(
        self,
        lr: Any,
        lr_lambda: Callable[[Any], Any],
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        self.lr_lambda = lr_lambda
        super().__init__({"lr": lr}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.lr_lambda(t)


class MultiplicativeLR(Schedule):
    """A rate that is multiplied, each time, by a function of the count.

    Args:
        lr: the first rate.
        lr_lambda: from a count, 1 and up, to a factor; of JAX functions.
        total_iters: how many factors there are; afterwards the rate stays. The product
            is taken anew each time, so that the rate is a function of the count alone.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    def __init__(
        self,
        lr: Any,
        lr_lambda: Callable[[Any], Any],
        total_iters: int = 1000,
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        self.lr_lambda = lr_lambda
        self.total_iters = int(total_iters)
        super().__init__({"lr": lr}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        counts = jnp.arange(1, self.total_iters + 1, dtype=t.dtype)
        factors = jax.vmap(self.lr_lambda)(counts)
        return self.lr * jnp.prod(jnp.where(counts <= t, factors, 1))
