# SPDX-License-Identifier: Apache-2.0
"""Schedules that rise from a small rate."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from ...errors import HyperparameterError, message
from ...runtime import depend_on
from ._schedule import Clock, Schedule, as_schedule


class LinearLR(Schedule):
    r"""A factor that goes in a straight line from one value to another, then stays.

    Args:
        lr: the rate at factor 1.
        start_factor: the first factor.
        end_factor: the last factor.
        total_iters: how long it takes, in (0, inf).
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    ranges: ClassVar = {"total_iters": "(0, inf)"}

    def __init__(
        self,
        lr: Any,
        start_factor: Any = 1 / 3,
        end_factor: Any = 1.0,
        total_iters: Any = 5,
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        numbers = {"lr": lr, "start_factor": start_factor, "end_factor": end_factor}
        super().__init__({**numbers, "total_iters": total_iters}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        part = jnp.minimum(t / self.total_iters, 1)
        change = self.end_factor - self.start_factor
        return self.lr * (self.start_factor + change * part)


class Warmup(Schedule):
    r"""Any schedule, after a rise to its first rate.

    Args:
        schedule: what follows: a schedule, a number, or a callable of the step.
        warmup_steps: updates of the rise, in [0, inf); then ``schedule`` starts at its
            own count 0.
        start_factor: the first factor, in [0, 1].
        mode: ``"linear"``, ``"cosine"`` or ``"constant"``.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`; what
            follows goes by the same count.
    """

    ranges: ClassVar = {"start_factor": "[0, 1]"}

    def __init__(
        self,
        schedule: Any,
        warmup_steps: Any,
        start_factor: Any = 0.0,
        mode: Literal["linear", "cosine", "constant"] = "linear",
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        if mode not in ("linear", "cosine", "constant"):
            raise HyperparameterError(message(f"mode={mode!r} is unknown."))
        self.mode = mode
        self.schedule = as_schedule(schedule, "Warmup")
        numbers = {"warmup_steps": warmup_steps, "start_factor": start_factor}
        super().__init__(numbers, last_epoch, clock)

    @property
    def base(self) -> Any:
        """The base of what follows."""
        return self.schedule.base

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        depend_on(self.schedule._revision)
        rest = self.schedule.rate(jnp.maximum(t - self.warmup_steps, 0))
        part = jnp.clip(t / jnp.maximum(self.warmup_steps, 1), 0, 1)
        if self.mode == "cosine":
            part = (1 - jnp.cos(jnp.pi * part)) / 2
        elif self.mode == "constant":
            part = jnp.zeros_like(part)
        factor = self.start_factor + (1 - self.start_factor) * part
        return rest * jnp.where(t < self.warmup_steps, factor, 1)


class NoamLR(Schedule):
    r"""A linear rise, then a fall with the root of the count.

    .. math:: \gamma_t = \gamma \, d^{-1/2} \min(n^{-1/2}, \; n \, w^{-3/2}),
              \qquad n = t + 1

    Args:
        d_model: :math:`d` in (0, inf), the width of the model.
        warmup_steps: :math:`w` in (0, inf), updates of the rise.
        lr: :math:`\gamma`, a factor.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.

    Source: Vaswani et al. 2017, Attention Is All You Need, equation 3.
    """

    ranges: ClassVar = {"d_model": "(0, inf)", "warmup_steps": "(0, inf)"}

    def __init__(
        self,
        d_model: Any,
        warmup_steps: Any,
        lr: Any = 1.0,
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        numbers = {"lr": lr, "d_model": d_model, "warmup_steps": warmup_steps}
        super().__init__(numbers, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        n = t + 1
        rise = n * self.warmup_steps**-1.5
        return self.lr * self.d_model**-0.5 * jnp.minimum(n**-0.5, rise)


class WarmupStableDecay(Schedule):
    r"""A linear rise, a plateau, and a fall.

    Args:
        lr: the rate of the plateau.
        warmup_steps: updates of the rise.
        stable_steps: updates of the plateau.
        decay_steps: updates of the fall.
        start_factor: the first factor, in [0, 1].
        end_factor: the last factor, in [0, 1].
        shape: of the fall: ``"linear"``, ``"cosine"`` or ``"sqrt"`` (1 - √).
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.

    Source: Hu et al. 2024, MiniCPM, equation 1; Hägele et al. 2024 for ``"sqrt"``.
    """

    ranges: ClassVar = {"start_factor": "[0, 1]", "end_factor": "[0, 1]"}

    def __init__(
        self,
        lr: Any,
        warmup_steps: Any,
        stable_steps: Any,
        decay_steps: Any,
        start_factor: Any = 0.0,
        end_factor: Any = 0.0,
        shape: Literal["linear", "cosine", "sqrt"] = "linear",
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        if shape not in _FALLS:
            raise HyperparameterError(message(f"shape={shape!r} is unknown."))
        self.shape = shape
        numbers = {"lr": lr, "warmup_steps": warmup_steps, "stable_steps": stable_steps}
        numbers |= {"decay_steps": decay_steps, "start_factor": start_factor}
        super().__init__({**numbers, "end_factor": end_factor}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        up = jnp.clip(t / jnp.maximum(self.warmup_steps, 1), 0, 1)
        rise = jnp.where(
            t < self.warmup_steps, self.start_factor + (1 - self.start_factor) * up, 1
        )
        over = t - self.warmup_steps - self.stable_steps
        part = jnp.clip(over / jnp.maximum(self.decay_steps, 1), 0, 1)
        fall = 1 - (1 - self.end_factor) * _FALLS[self.shape](part)
        return self.lr * rise * fall


_FALLS = {
    "linear": lambda part: part,
    "cosine": lambda part: (1 - jnp.cos(jnp.pi * part)) / 2,
    "sqrt": jnp.sqrt,
}
