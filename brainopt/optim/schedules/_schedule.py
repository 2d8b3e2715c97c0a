# SPDX-License-Identifier: Apache-2.0
"""Schedules: a number, mostly the learning rate, as a function of a counted step."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from ...core import Node, Variable, wrap
from ...errors import HyperparameterError, message
from ...runtime import depend_on
from .._hyperparameters import HasHyperparams, HyperparamVector, check, scalar, show
from ._curve import curve

Clock = Literal["step", "epoch"]


class Schedule(HasHyperparams, abc.ABC):
    """Abstract: a pure function of a count, with its numbers as runtime inputs.

    A final schedule gives `rate`. What it counts is its clock: ``"step"`` counts the
    updates that its optimizer has done, ``"epoch"`` the calls of `step_epoch`.

    Args:
        numbers: the numbers of the formula, by name; ``schedule.lr = 0.1`` changes
            one without recompiling.
        last_epoch: the epochs that are over, minus one.
        clock: what it counts.
        last_call: the updates that were done before its optimizer's first, minus one.
        owner: named in errors.

    Raises:
        HyperparameterError: a number is out of range.
    """

    ranges: ClassVar[dict[str, str]] = {}
    """Intervals of the numbers that are not in [0, inf)."""
    _borrowed = frozenset({"_counter"})

    def __init__(
        self,
        numbers: Mapping[str, Any],
        last_epoch: int = -1,
        clock: Clock = "epoch",
        last_call: int = -1,
        owner: str = "",
    ):
        if clock not in ("step", "epoch"):
            raise HyperparameterError(
                message(f"clock={clock!r}.", help="'step' or 'epoch'.")
            )
        values = {name: scalar(value, name) for name, value in numbers.items()}
        owner = owner or type(self).__name__
        self.numbers = HyperparamVector(values, owner=owner, ranges=self.ranges)
        self.clock = clock
        self.last_epoch = Variable(jnp.asarray(last_epoch, jnp.int32))
        self.last_call = Variable(jnp.asarray(last_call, jnp.int32))

    def __getattr__(self, name: str) -> Any:
        numbers = self.__dict__.get("numbers")
        if numbers is not None and name in numbers.names:
            return numbers.number(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        numbers = self.__dict__.get("numbers")
        if numbers is not None and name in numbers.names:
            numbers.set_number(name, value)
        else:
            super().__setattr__(name, value)

    @abc.abstractmethod
    def rate(self, t: Any) -> Any:
        """Return the rate after ``t`` steps or epochs; ``t`` is a 0-d float array."""

    @property
    def base(self) -> Any:
        """The rate that the schedule scales; `multiplier` is relative to it."""
        return self.lr

    def at(self, step: Any) -> Any:
        """Return the rate of the update that follows ``step`` updates."""
        depend_on(self._revision)
        return self.rate(self._time(step))

    def multiplier(self, step: Any) -> Any:
        """Return η, the rate of that update divided by `base`."""
        return self.at(step) / self.base

    def _time(self, step: Any) -> Any:
        if self.clock == "epoch":
            return self._float(self.last_epoch.value + 1)
        return self._float(step + self.last_call.value + 1)

    def _float(self, t: Any) -> Any:
        return jnp.asarray(t).astype(self.numbers.value.dtype)

    def __call__(self, i: Any = None) -> Any:
        """Return the rate after ``i`` steps or epochs, or that of the next update."""
        if i is not None:
            return self.rate(self._float(i))
        counter = self.__dict__.get("_counter")
        return self.at(0 if counter is None else counter.value)

    def _repr_html_(self) -> str:
        return curve(self)

    def step_epoch(self) -> None:
        """Count one epoch."""
        self.last_epoch.value = self.last_epoch.value + 1

    def step_call(self) -> None:
        """Count one update of a schedule that is used without an optimizer.

        In an optimizer every `update` counts by itself.
        """
        self.last_call.value = self.last_call.value + 1

    def count_by(self, counter: Variable) -> None:
        """Read the updates done from ``counter`` when called without an argument."""
        vars(self)["_counter"] = counter


class Constant(Schedule):
    """The same rate for ever.

    Args:
        lr: the rate, or a Variable that holds it.
        last_epoch: the epochs that are over, minus one.
    """

    def __init__(self, lr: Any, last_epoch: int = -1, *, owner: str = ""):
        if isinstance(lr, Variable):
            self.variable = lr
            super().__init__({}, last_epoch, "step", owner=owner)
        else:
            super().__init__({"lr": lr}, last_epoch, "step", owner=owner)

    def at(self, step: Any) -> Any:
        """Return ``lr``; no count is read, so a compiled step takes none."""
        depend_on(self._revision)
        return self.rate(step)

    def rate(self, t: Any) -> Any:
        """Return ``lr``."""
        return self.variable.value if "variable" in self.__dict__ else self.lr

    @property
    def base(self) -> Any:
        """The rate itself."""
        return self.rate(0)

    def multiplier(self, step: Any) -> Any:
        """Return 1."""
        return jnp.ones((), self.numbers.value.dtype)

    def set_value(self, lr: Any) -> None:
        """Change the rate."""
        if "variable" in self.__dict__:
            new = scalar(lr, "lr")
            check({"lr": new}, (), {}, self.numbers.owner)
            old = self.variable.value
            self.variable.value = jnp.full(old.shape, new, old.dtype)
        else:
            self.lr = lr

    def __repr__(self) -> str:
        return f"Constant({show(self.rate(0))})"


class Function(Schedule):
    """A schedule from any callable of the integer step, such as those of optax."""

    def __init__(self, function: Any):
        self.function = function
        super().__init__({}, clock="step")

    def at(self, step: Any) -> Any:
        """Return ``function(step)``."""
        depend_on(self._revision)
        return self.function(step + self.last_call.value + 1)

    def rate(self, t: Any) -> Any:
        """Return ``function(t)``."""
        return self.function(t)

    @property
    def base(self) -> Any:
        """Not known of a callable."""
        raise HyperparameterError(
            message(
                "A decay by the schedule multiplier needs a schedule that knows its "
                "base rate; a callable does not.",
                help="write bo.optim.LambdaLR(lr, factor).",
            )
        )

    def __repr__(self) -> str:
        return f"Function({getattr(self.function, '__name__', self.function)})"


def as_schedule(lr: Any, owner: str = "", name: str = "lr") -> Schedule:
    """Return ``lr`` as a schedule: a number, array, Variable, schedule or callable.

    Args:
        lr: the rate; a Variable may be one of another framework.
        owner: named in errors.
        name: how it is called there.

    Raises:
        HyperparameterError: it is nothing of that kind, or a schedule of another
            framework.
    """
    if isinstance(lr, Schedule):
        return lr
    held = wrap(lr)
    if is_number(held):
        return Constant(held, owner=owner)
    if hasattr(lr, "step_epoch"):
        kind = type(lr)
        raise HyperparameterError(
            message(
                f"{name}: the {kind.__name__} of {kind.__module__.partition('.')[0]} "
                "counts by itself, and no optimizer of brainopt would tell it.",
                help="take the schedule of that name from bo.optim, or `lambda step: "
                "schedule(step)` to count updates.",
            )
        )
    if isinstance(lr, Node | type) or not callable(lr):
        order = f"the order is {owner or 'Optimizer'}(lr, train_vars, …); "
        raise HyperparameterError(
            message(
                f"{name} of type {type(lr).__name__}.",
                help=f"{order * (name == 'lr')}{name} is a number, a Variable, a "
                "schedule or a callable of the step.",
            )
        )
    return Function(lr)


def is_number(value: Any) -> bool:
    """Whether ``value`` is one number: of Python, numpy, jax, or in a Variable."""
    if isinstance(value, Variable | jax.Array):
        return value.shape == ()
    if isinstance(value, str) or callable(value):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
