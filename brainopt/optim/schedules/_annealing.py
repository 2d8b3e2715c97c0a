# SPDX-License-Identifier: Apache-2.0
"""Schedules that swing: cosines, cycles."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, Literal, get_args

import jax.numpy as jnp

from ..._typing import Array
from ..._warnings import warn_user
from ...errors import TrainingWarning, message
from ..hyperparameters._declared import takes_fields
from ..hyperparameters._fields import Number, number, one_of, required
from ._counts import divided
from ._fields import Clock, Counter, counted_by, epochs_over, updates_over
from ._schedule import Schedule

Strategy = Literal["cos", "linear"]
Mode = Literal["triangular", "triangular2", "exp_range"]
_MODES = (
    "``'triangular'``; ``'triangular2'``, whose height halves each cycle; or "
    "``'exp_range'``, whose height shrinks by ``gamma`` each update"
)


class CosineAnnealingLR(Schedule):
    r"""Half a cosine wave from ``lr`` down to ``eta_min``, then ``eta_min``.

    .. math:: \eta_t = \eta_{min} + (\eta_0 - \eta_{min})
              \, (1 + \cos(\pi \min(t, T) / T)) / 2

    Source: Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.
    Differs: brainpy and torch swing up again after ``T_max``; optax stays, as here.
    """

    lr: Number = required(r"\eta_0", "the first learning rate")
    T_max: Number = required("T", "where the minimum is reached", "(0, inf)")
    eta_min: Number = number(0.0, r"\eta_{min}", "the last learning rate")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("epoch")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        return _cosine(self.lr, self.eta_min, jnp.minimum(t / self.T_max, 1))


class CosineAnnealingWarmRestarts(Schedule):
    r"""Half cosine waves, each starting anew at ``lr`` and ``T_mult`` times as long.

    Source: Loshchilov & Hutter 2017, SGDR, equation 5.
    Differs: torch takes ``(optimizer, T_0, T_mult)``; three numbers by position, which
    may be meant so, are warned of.
    """

    @takes_fields
    def __init__(self, *args: Any, **kwargs: Any):
        if len(args) == 3 and not kwargs:
            warn_user(
                message(
                    f"CosineAnnealingWarmRestarts{args} has num_call_per_epoch="
                    f"{args[1]}, T_0={args[2]}, T_mult=1, as in BrainPy; torch's order "
                    "is T_0, T_mult.",
                    help="give them by name.",
                ),
                TrainingWarning,
            )
        super().__init__(*args, **kwargs)

    lr: Number = required(doc="the rate at each start")
    num_call_per_epoch: Number = required(
        doc="updates in an epoch; its clock counts updates", range="[1, inf)"
    )
    T_0: Number = required(doc="epochs of the first wave", range="(0, inf)")
    T_mult: Number = number(
        1, doc="how much longer each wave is than the one before", range="[1, inf)"
    )
    eta_min: Number = number(0.0, doc="the rate at each end")
    last_epoch: Counter = epochs_over()
    last_call: Counter = updates_over()
    _: KW_ONLY
    clock: Clock = counted_by("step", "; then ``num_call_per_epoch`` is not used")
    _takes_counts = True

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` updates or epochs."""
        by_step = self.clock == "step"
        calls = self.num_call_per_epoch if by_step else jnp.ones_like(self.lr)
        # For waves of one length, the place in the wave is a remainder.
        place = divided(t, self.T_0 * calls, _HAIR)[1] / calls
        t = t.astype(calls.dtype) / calls
        # T_mult may change between steps, so both cases are computed. For a ratio of 1
        # the general formula divides by log 1 = 0; 2 replaces it, and the result is not
        # used.
        first, ratio = self.T_0, self.T_mult
        same = ratio == 1
        growth = jnp.where(same, 2.0, ratio)
        # Cycle n starts at T_0 (rⁿ - 1) / (r - 1); a hair more keeps its start in it.
        n = jnp.floor(jnp.log(1 + t / first * (growth - 1)) / jnp.log(growth) + _HAIR)
        place = jnp.where(same, place, t - first * (growth**n - 1) / (growth - 1))
        length = jnp.where(same, first, first * growth**n)
        part = jnp.clip(place / length, 0, 1)
        return _cosine(self.lr, self.eta_min, part)


class OneCycleLR(Schedule):
    r"""Up from ``max_lr / div_factor`` to ``max_lr``, then down to almost nothing.

    Source: Smith & Topin 2018, Super-Convergence.
    Differs: the peaks lie where torch has them, one update before the ends of the
    phases; optax has them at the ends. After the cycle the last rate stays; torch
    raises. torch cycles the momentum, or beta1, against the rate unless it is told not
    to; here the rate alone is cycled, and a momentum takes a schedule of its own.
    """

    max_lr: Number = required(doc="the highest rate")
    total_steps: Number = required(doc="updates of the whole cycle", range="[2, inf)")
    pct_start: Number = number(
        0.3, doc="the part of the cycle that goes up", range="(0, 1)"
    )
    anneal_strategy: Strategy = one_of("cos", get_args(Strategy), "the curve")
    div_factor: Number = number(25.0, doc="``max_lr`` over the first rate")
    final_div_factor: Number = number(1e4, doc="the first rate over the last")
    three_phase: bool = one_of(
        False, (False, True), "come down symmetrically before the last descent"
    )
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    @property
    def base(self) -> Any:
        """The highest rate."""
        return self.max_lr

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        # torch counts from 0 to total - 1, and each phase ends one update early.
        total, up = self.total_steps, self.pct_start * self.total_steps - 1
        low = self.max_lr / self.div_factor
        least = low / self.final_div_factor
        curve = _ANNEAL[self.anneal_strategy]
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

    Source: Smith 2017, Cyclical Learning Rates, section 3.
    Differs: torch cycles the momentum against the rate unless it is told not to; here
    the rate alone is cycled, and a momentum takes a schedule of its own.
    """

    lr: Number = required(doc="the lowest rate")
    max_lr: Number = required(doc="the highest rate of the first cycle")
    step_size_up: Number = number(2000, doc="updates on the way up", range="(0, inf)")
    step_size_down: Number = number(
        None,
        doc="updates on the way down; None: as on the way up",
        range="(0, inf)",
        none="step_size_up",
    )
    mode: Mode = one_of("triangular", get_args(Mode), _MODES)
    _takes_counts = True
    gamma: Number = number(1.0, doc="see ``mode``", range="(0, 1]")
    last_epoch: Counter = epochs_over()
    _: KW_ONLY
    clock: Clock = counted_by("step")

    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs."""
        up, length = self.step_size_up, self.step_size_up + self.step_size_down
        # With the hair added, ``t`` may lie just before the start of its cycle.
        cycle, place = divided(t, length, _HAIR)
        height = jnp.where(
            place <= up, place / up, (length - place) / self.step_size_down
        )
        if self.mode == "triangular2":
            height = height / 2**cycle
        elif self.mode == "exp_range":
            height = height * self.gamma ** t.astype(self.gamma.dtype)
        return self.lr + (self.max_lr - self.lr) * height


# In float32 a quotient that should be whole may come out just below; it would belong to
# the cycle before.
_HAIR = 1e-6


def _cosine(start: Any, end: Any, part: Any) -> Any:
    return end + (start - end) * (1 + jnp.cos(jnp.pi * part)) / 2


def _linear(start: Any, end: Any, part: Any) -> Any:
    return start + (end - start) * part


_ANNEAL = {"cos": _cosine, "linear": _linear}


def _part(t: Any, start: Any, end: Any) -> Any:
    # A phase of no length is over at once.
    length = end - start
    part = jnp.clip((t - start) / jnp.where(length == 0, 1, length), 0, 1)
    return jnp.where(length == 0, 1, part)
