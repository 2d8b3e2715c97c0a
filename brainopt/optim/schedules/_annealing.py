# SPDX-License-Identifier: Apache-2.0
"""Schedules that swing: cosines, cycles."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from ...errors import HyperparameterError, message
from ._schedule import Clock, Schedule


class CosineAnnealingLR(Schedule):
    r"""Half a cosine wave from ``lr`` down to ``eta_min``, then ``eta_min``.

    .. math:: \eta_t = \eta_{min} + (\eta_0 - \eta_{min})
              \, (1 + \cos(\pi \min(t, T) / T)) / 2

    Args:
        lr: :math:`\eta_0`, the first learning rate.
        T_max: :math:`T` in (0, inf), where the minimum is reached.
        eta_min: :math:`\eta_{min}`, the last learning rate.
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.

    Source: Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.
    Differs: brainpy and torch swing up again after ``T_max``; optax stays, as here.
    """

    ranges: ClassVar = {"T_max": "(0, inf)"}

    def __init__(
        self,
        lr: Any,
        T_max: Any,
        eta_min: Any = 0.0,
        last_epoch: int = -1,
        *,
        clock: Clock = "epoch",
    ):
        numbers = {"lr": lr, "T_max": T_max, "eta_min": eta_min}
        super().__init__(numbers, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return _cosine(self.lr, self.eta_min, jnp.minimum(t / self.T_max, 1))


class CosineAnnealingWarmRestarts(Schedule):
    r"""Half cosine waves, each starting anew at ``lr`` and ``T_mult`` times as long.

    Args:
        lr: the rate at each start.
        num_call_per_epoch: updates in an epoch, in [1, inf); its clock counts updates.
        T_0: epochs of the first wave, in (0, inf).
        T_mult: how much longer each wave is than the one before, in [1, inf).
        eta_min: the rate at each end.
        last_epoch: the epochs that are over, minus one.
        last_call: the updates that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch` (then
            ``num_call_per_epoch`` is not used).

    Source: Loshchilov & Hutter 2017, SGDR, equation 5.
    """

    ranges: ClassVar = {
        "T_0": "(0, inf)",
        "T_mult": "[1, inf)",
        "num_call_per_epoch": "[1, inf)",
    }

    def __init__(
        self,
        lr: Any,
        num_call_per_epoch: Any,
        T_0: Any,
        T_mult: Any = 1,
        eta_min: Any = 0.0,
        last_epoch: int = -1,
        last_call: int = -1,
        *,
        clock: Clock = "step",
    ):
        numbers = {"lr": lr, "T_0": T_0, "T_mult": T_mult, "eta_min": eta_min}
        numbers["num_call_per_epoch"] = num_call_per_epoch
        super().__init__(numbers, last_epoch, clock, last_call)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` updates or epochs."""
        if self.clock == "step":
            t = t / self.num_call_per_epoch
        first, ratio = self.T_0, self.T_mult
        same = ratio == 1
        growth = jnp.where(same, 2.0, ratio)
        # Cycle n starts at T_0 (rⁿ - 1) / (r - 1); a hair more keeps its start in it.
        n = jnp.floor(jnp.log(1 + t / first * (growth - 1)) / jnp.log(growth) + _HAIR)
        start = jnp.where(
            same,
            first * jnp.floor(t / first + _HAIR),
            first * (growth**n - 1) / (growth - 1),
        )
        length = jnp.where(same, first, first * growth**n)
        part = jnp.clip((t - start) / length, 0, 1)
        return _cosine(self.lr, self.eta_min, part)


class OneCycleLR(Schedule):
    r"""Up from ``max_lr / div_factor`` to ``max_lr``, then down to almost nothing.

    Args:
        max_lr: the highest rate.
        total_steps: updates of the whole cycle, in [2, inf).
        pct_start: the part of the cycle that goes up, in (0, 1).
        anneal_strategy: ``"cos"`` or ``"linear"``.
        div_factor: ``max_lr`` over the first rate.
        final_div_factor: the first rate over the last.
        three_phase: come down symmetrically before the last descent.
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.

    Source: Smith & Topin 2018, Super-Convergence.
    Differs: the peaks lie where torch has them, one update before the ends of the
    phases; optax has them at the ends. After the cycle the last rate stays; torch
    raises.
    """

    ranges: ClassVar = {"total_steps": "[2, inf)", "pct_start": "(0, 1)"}

    def __init__(
        self,
        max_lr: Any,
        total_steps: Any,
        pct_start: Any = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        div_factor: Any = 25.0,
        final_div_factor: Any = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        self.anneal = _one_of("anneal_strategy", anneal_strategy, _ANNEAL)
        self.three_phase = bool(three_phase)
        numbers = {"max_lr": max_lr, "total_steps": total_steps, "pct_start": pct_start}
        numbers |= {"div_factor": div_factor, "final_div_factor": final_div_factor}
        super().__init__(numbers, last_epoch, clock)

    @property
    def base(self) -> Any:
        """The highest rate."""
        return self.max_lr

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        total, up = self.total_steps, self.pct_start * self.total_steps - 1
        low = self.max_lr / self.div_factor
        least = low / self.final_div_factor
        curve = _ANNEAL[self.anneal]
        rising = curve(low, self.max_lr, _part(t, 0, up))
        if not self.three_phase:
            falling = curve(self.max_lr, least, _part(t, up, total - 1))
            return jnp.where(t <= up, rising, falling)
        down = 2 * self.pct_start * total - 2
        falling = curve(self.max_lr, low, _part(t, up, down))
        last = curve(low, least, _part(t, down, total - 1))
        return jnp.where(t <= up, rising, jnp.where(t <= down, falling, last))


class CyclicLR(Schedule):
    r"""Up and down between two rates, again and again.

    Args:
        lr: the lowest rate.
        max_lr: the highest rate of the first cycle.
        step_size_up: updates on the way up, in (0, inf).
        step_size_down: updates on the way down; default as on the way up.
        mode: ``"triangular"``; ``"triangular2"``, whose height halves each cycle; or
            ``"exp_range"``, whose height shrinks by ``gamma`` each update.
        gamma: see ``mode``, in (0, 1].
        last_epoch: the epochs that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.

    Source: Smith 2017, Cyclical Learning Rates, section 3.
    """

    ranges: ClassVar = {
        "step_size_up": "(0, inf)",
        "step_size_down": "(0, inf)",
        "gamma": "(0, 1]",
    }

    def __init__(
        self,
        lr: Any,
        max_lr: Any,
        step_size_up: Any = 2000,
        step_size_down: Any = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: Any = 1.0,
        last_epoch: int = -1,
        *,
        clock: Clock = "step",
    ):
        self.mode = _one_of("mode", mode, ("triangular", "triangular2", "exp_range"))
        numbers = {"lr": lr, "max_lr": max_lr, "gamma": gamma}
        numbers["step_size_up"] = step_size_up
        down = step_size_up if step_size_down is None else step_size_down
        super().__init__({**numbers, "step_size_down": down}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        up, length = self.step_size_up, self.step_size_up + self.step_size_down
        cycle = jnp.floor(t / length + _HAIR)
        place = jnp.maximum(t - cycle * length, 0)
        height = jnp.where(
            place <= up, place / up, (length - place) / self.step_size_down
        )
        if self.mode == "triangular2":
            height = height / 2**cycle
        elif self.mode == "exp_range":
            height = height * self.gamma**t
        return self.lr + (self.max_lr - self.lr) * height


_HAIR = 1e-6


def _cosine(start: Any, end: Any, part: Any) -> Any:
    return end + (start - end) * (1 + jnp.cos(jnp.pi * part)) / 2


def _linear(start: Any, end: Any, part: Any) -> Any:
    return start + (end - start) * part


_ANNEAL = {"cos": _cosine, "linear": _linear}


def _part(t: Any, start: Any, end: Any) -> Any:
    length = end - start
    part = jnp.clip((t - start) / jnp.where(length == 0, 1, length), 0, 1)
    return jnp.where(length == 0, 1, part)


def _one_of(name: str, value: str, known: Any) -> str:
    if value not in known:
        raise HyperparameterError(
            message(f"{name}={value!r}.", help=f"one of {', '.join(known)}.")
        )
    return value
