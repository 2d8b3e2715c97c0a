# SPDX-License-Identifier: Apache-2.0
"""Schedules that fall: in steps, exponentially, by powers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from ...core import Variable
from ...errors import HyperparameterError, message
from .._hyperparameters import SettingVariable
from ._schedule import Clock, Schedule

_GAMMA = {"gamma": "(0, inf)"}


class StepLR(Schedule):
    r"""A rate that is multiplied by gamma every so many epochs.

    .. math:: \gamma_t = \gamma_0 \, g^{\lfloor t / s \rfloor}

    Args:
        lr: :math:`\gamma_0`, the first rate.
        step_size: :math:`s` in [1, inf).
        gamma: :math:`g` in (0, inf).
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.
    """

    ranges: ClassVar = {**_GAMMA, "step_size": "[1, inf)"}

    def __init__(
        self,
        lr: Any,
        step_size: Any,
        gamma: Any = 0.1,
        last_epoch: int = -1,
        *,
        clock: Clock = "epoch",
    ):
        numbers = {"lr": lr, "step_size": step_size, "gamma": gamma}
        super().__init__(numbers, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.gamma ** jnp.floor(t / self.step_size)


class MultiStepLR(Schedule):
    r"""A rate that is multiplied by gamma at each milestone.

    Args:
        lr: the first rate.
        milestones: when, increasing.
        gamma: in (0, inf).
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.

    Differs: brainpy multiplies one epoch later; torch as here.
    """

    ranges: ClassVar = _GAMMA

    def __init__(
        self,
        lr: Any,
        milestones: Sequence[Any],
        gamma: Any = 0.1,
        last_epoch: int = -1,
        *,
        clock: Clock = "epoch",
    ):
        self.milestones = _increasing("milestones", milestones)
        super().__init__({"lr": lr, "gamma": gamma}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        passed = (self.milestones.value <= t).sum()
        return self.lr * self.gamma ** passed.astype(self.gamma.dtype)


class ExponentialLR(Schedule):
    r"""A rate that is multiplied by gamma each epoch: :math:`\gamma_0 \, g^t`.

    Args:
        lr: :math:`\gamma_0`, the first rate.
        gamma: :math:`g` in (0, inf).
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.
    """

    ranges: ClassVar = _GAMMA

    def __init__(
        self, lr: Any, gamma: Any, last_epoch: int = -1, *, clock: Clock = "epoch"
    ):
        super().__init__({"lr": lr, "gamma": gamma}, last_epoch, clock)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.gamma**t


class ExponentialDecayLR(Schedule):
    r"""Exponential decay by updates: :math:`\gamma_0 \, r^{t / s}`.

    Args:
        lr: :math:`\gamma_0`, the first rate.
        decay_steps: :math:`s` in (0, inf).
        decay_rate: :math:`r` in (0, inf).
        last_epoch: the epochs that are over, minus one.
        last_call: the updates that are over, minus one.
        staircase: fall at whole multiples of ``decay_steps`` only.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    ranges: ClassVar = {"decay_steps": "(0, inf)", "decay_rate": "(0, inf)"}

    def __init__(
        self,
        lr: Any,
        decay_steps: Any,
        decay_rate: Any,
        last_epoch: int = -1,
        last_call: int = -1,
        *,
        staircase: bool = False,
        clock: Clock = "step",
    ):
        self.staircase = bool(staircase)
        numbers = {"lr": lr, "decay_steps": decay_steps, "decay_rate": decay_rate}
        super().__init__(numbers, last_epoch, clock, last_call)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr * self.decay_rate ** _stairs(t / self.decay_steps, self)


class InverseTimeDecayLR(Schedule):
    r"""Decay with time: :math:`\gamma_0 / (1 + r \, t / s)`.

    Args:
        lr: :math:`\gamma_0`, the first rate.
        decay_steps: :math:`s` in (0, inf).
        decay_rate: :math:`r` in [0, inf).
        staircase: fall at whole multiples of ``decay_steps`` only.
        last_epoch: the epochs that are over, minus one.
        last_call: the updates that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    ranges: ClassVar = {"decay_steps": "(0, inf)"}

    def __init__(
        self,
        lr: Any,
        decay_steps: Any,
        decay_rate: Any,
        staircase: bool = False,
        last_epoch: int = -1,
        last_call: int = -1,
        *,
        clock: Clock = "step",
    ):
        self.staircase = bool(staircase)
        numbers = {"lr": lr, "decay_steps": decay_steps, "decay_rate": decay_rate}
        super().__init__(numbers, last_epoch, clock, last_call)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.lr / (1 + self.decay_rate * _stairs(t / self.decay_steps, self))


class PolynomialDecayLR(Schedule):
    r"""Down to a last rate by a power of the time that is left.

    .. math:: \gamma_t = (\gamma_0 - \gamma_T) (1 - \min(t, T) / T)^p + \gamma_T

    Args:
        lr: :math:`\gamma_0`, the first rate.
        decay_steps: :math:`T` in (0, inf).
        final_lr: :math:`\gamma_T`, the last rate.
        power: :math:`p` in (0, inf).
        last_epoch: the epochs that are over, minus one.
        last_call: the updates that are over, minus one.
        clock: ``"step"`` counts updates, ``"epoch"`` the calls of `step_epoch`.
    """

    ranges: ClassVar = {"decay_steps": "(0, inf)", "power": "(0, inf)"}

    def __init__(
        self,
        lr: Any,
        decay_steps: Any,
        final_lr: Any,
        power: Any = 1.0,
        last_epoch: int = -1,
        last_call: int = -1,
        *,
        clock: Clock = "step",
    ):
        numbers = {"lr": lr, "decay_steps": decay_steps, "final_lr": final_lr}
        super().__init__({**numbers, "power": power}, last_epoch, clock, last_call)

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        left = 1 - jnp.minimum(t / self.decay_steps, 1)
        return (self.lr - self.final_lr) * left**self.power + self.final_lr


class PiecewiseConstantLR(Schedule):
    """One rate after another.

    Args:
        boundaries: the counts at which the next rate begins, increasing.
        values: the rates, one more than boundaries.
        last_epoch: the epochs that are over, minus one.
        clock: ``"epoch"`` counts the calls of `step_epoch`, ``"step"`` the updates.

    Differs: brainpy changes one count later; optax as here.
    """

    def __init__(
        self,
        boundaries: Sequence[Any],
        values: Sequence[Any],
        last_epoch: int = -1,
        *,
        clock: Clock = "epoch",
    ):
        if len(values) != len(boundaries) + 1:
            raise HyperparameterError(
                message(f"{len(values)} rates for {len(boundaries)} boundaries.")
            )
        self.boundaries = _increasing("boundaries", boundaries)
        numbers = {f"value{i}": value for i, value in enumerate(values)}
        super().__init__(numbers, last_epoch, clock)

    @property
    def base(self) -> Any:
        """The first rate."""
        return self.value0

    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs."""
        return self.numbers.value[(self.boundaries.value <= t).sum()]


def _stairs(t: Any, schedule: Any) -> Any:
    return jnp.floor(t) if schedule.staircase else t


def _increasing(name: str, counts: Sequence[Any]) -> Variable:
    counts = [float(count) for count in counts]
    if counts != sorted(counts):
        raise HyperparameterError(message(f"{name}={counts} do not increase."))
    return SettingVariable(jnp.asarray(counts, float), name=name)
