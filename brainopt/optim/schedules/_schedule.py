# SPDX-License-Identifier: Apache-2.0
"""Schedules: a number, mostly the learning rate, as a function of a counted step."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeGuard

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ... import runtime
from ..._typing import Array, PyTree, Scalar, ScalarOrSchedule, StepCount
from ...core import Node, Variable, wrap
from ...errors import HyperparameterError, message
from ...runtime import depend_on
from ..engine._missed import add_counts, next_step
from ..hyperparameters._declared import takes_fields
from ..hyperparameters._fields import Number, as_given, kept, number
from ..hyperparameters._has_hyperparams import HasHyperparams
from ..hyperparameters._names import bind
from ..hyperparameters._numbers import check, scalar, show
from ._as_number import Arithmetic, AsNumber
from ._curve import curve
from ._fields import counted_by, epochs_over, updates_over


class Schedule(AsNumber, HasHyperparams, abc.ABC):
    """Abstract: a pure function of a count, with its numbers as runtime inputs.

    A final schedule declares its numbers, as an algorithm does, and gives `rate`;
    ``schedule.lr = 0.1`` changes one without recompiling. What it counts is its clock:
    ``"step"`` counts the updates that its optimizer has done, ``"epoch"`` the calls of
    `step_epoch`. It compares with numbers by its present rate, as in ``opt.lr < 1e-5``.

    Attributes:
        numbers: the numbers of the formula, in one Variable.
        clock: what it counts.
        last_epoch: the epochs that are over, minus one.
        last_call: the updates that were done before its optimizer's first, minus one.

    Raises:
        HyperparameterError: a number is out of range.
    """

    last_epoch = epochs_over()
    last_call = updates_over()
    clock = counted_by("epoch")
    _counter: ClassVar[Variable | None] = None
    _takes_counts: ClassVar[bool] = False
    """Whether `rate` takes whole counts as they are, in int32; see `_counts`."""
    _borrowed = frozenset({"_counter"})

    @takes_fields
    def __init__(self, *args: Any, **kwargs: Any):
        kind = type(self)
        self._keep(bind(kind, kind._declared.signature, args, kwargs))

    def _keep(self, given: Mapping[str, Any], owner: str = "") -> None:
        """Keep arguments: the numbers in one vector, all others as their field says."""
        declared, owner = self._declared, owner or type(self).__name__
        super().__init__(given.get("name"))
        numbers = declared.of(Number)
        others = {k: f for k, f in declared.fields.items() if k not in numbers}
        held = {k: given.get(f.argument, f.default) for k, f in others.items()}
        held |= _resumed(held, owner)
        if problems := [p for k, f in others.items() if (p := f.problem(held[k]))]:
            raise HyperparameterError(
                message(f"These settings of {owner} are out of range:", problems)
            )
        values = {
            name: scalar(field.given(given[name], given), name)
            for name, field in numbers.items()
            if name in given
        }
        self._keep_numbers(values, owner)
        for name, field in others.items():
            vars(self)[name] = field.stored(held[name])
        self._start()

    def _start(self) -> None:
        """Hook called at the end of construction, to check or to add state."""

    @abc.abstractmethod
    def rate(self, t: Array) -> Array:
        """Return the rate after ``t`` steps or epochs; ``t`` is a 0-d float array."""

    @property
    def base(self) -> Any:
        """The rate that the schedule scales; `multiplier` is relative to it."""
        return self.numbers.number("lr")

    def at(self, step: StepCount) -> Array:
        """Return the rate of the update that follows ``step`` updates."""
        depend_on(self._revision)
        return self._rate_of(self._time(step))

    def multiplier(self, step: StepCount) -> Array:
        """Return η, the rate of that update divided by `base`."""
        return self.at(step) / self.base

    def _time(self, step: Any) -> Any:
        # -1 means that none is over, as in torch and BrainPy. The count of the
        # optimizer is added to that of the updates before it, and is never written
        # here: a schedule is a function of counts, and two optimizers may share it.
        if self.clock == "epoch":
            return next_step(self.last_epoch.value)
        return add_counts(step, next_step(self.last_call.value))

    def _rate_of(self, t: Any) -> Any:
        """Return `rate` after a count, which may be a whole one."""
        t = jnp.asarray(t)
        is_count = self._takes_counts and jnp.issubdtype(t.dtype, jnp.integer)
        return self.rate(t if is_count else t.astype(self.numbers.value.dtype))

    def __call__(self, i: Any = None) -> Any:
        """Return the rate after ``i`` steps or epochs, or that of the next update."""
        if i is not None:
            return self._rate_of(i)
        # Looked at, not owned: the count is saved and moved with the optimizer.
        return self.at(0 if self._counter is None else self._counter.value)

    def __float__(self) -> float:
        rate = self()
        # The shortest text, so that 0.1 in float32 is 0.1 again.
        return float(rate if isinstance(rate, Tracer) else str(rate))

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    def _shown_first(self) -> list[str]:
        def is_schedule(part: object) -> bool:
            many = part if isinstance(part, list | tuple) else [part]
            return any(isinstance(one, Schedule) for one in many)

        return [repr(part) for part in vars(self).values() if is_schedule(part)]

    def _repr_html_(self) -> str:
        return curve(self)

    def step_epoch(self) -> None:
        """Count one epoch."""
        _count(self.last_epoch)

    def step_call(self) -> None:
        """Count one update of a schedule that is used without an optimizer.

        In an optimizer every `update` counts by itself.
        """
        _count(self.last_call)

    def count_by(self, counter: Variable) -> None:
        """Read the updates done from ``counter`` when called without an argument."""
        vars(self)["_counter"] = counter


def _count(counter: Variable) -> None:
    with runtime.exclusive():
        counter.value = next_step(counter.value)


def _resumed(held: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the counters of a schedule that is begun at a later count.

    ``last_epoch`` is the argument of torch for it, whatever the schedule counts: one
    that counts updates takes it for the updates that are over.
    """
    if held.get("clock") != "step" or held["last_epoch"] == -1:
        return {}
    if held["last_call"] != -1:
        raise HyperparameterError(
            message(
                f"This {owner} counts updates, and was given both last_epoch="
                f"{held['last_epoch']} and last_call={held['last_call']}.",
                help="give last_call= alone, or clock='epoch'.",
            )
        )
    return {"last_epoch": -1, "last_call": held["last_epoch"]}


class Constant(Arithmetic, Schedule):
    """The same rate for ever.

    Args:
        lr: the rate, or a Variable that holds it.
        last_epoch: the epochs that are over, minus one.
        owner: named in errors.
    """

    lr = number()
    clock = counted_by("step")

    def __init__(self, lr: Scalar, last_epoch: int = -1, *, owner: str = ""):
        self.variable = lr if isinstance(lr, Variable) else None
        given = {} if self.variable is not None else {"lr": lr}
        self._keep({**given, "last_epoch": last_epoch}, owner)

    def at(self, step: StepCount) -> Array:
        """Return ``lr``; no count is read, so a compiled step takes none."""
        depend_on(self._revision)
        return self.rate(step)

    def rate(self, t: StepCount) -> Array:
        """Return ``lr``."""
        return self.lr if self.variable is None else self.variable.value

    @property
    def base(self) -> Any:
        """The rate itself."""
        return self.rate(0)

    def multiplier(self, step: StepCount) -> Array:
        """Return 1."""
        return jnp.ones((), self.numbers.value.dtype)

    def set_value(self, lr: Scalar) -> None:
        """Change the rate."""
        if self.variable is not None:
            new = scalar(lr, "lr")
            check({"lr": new}, (), {}, self.numbers.owner)
            # Its dtype and shape stay, so that no compiled step changes.
            old = self.variable.value
            self.variable.value = jnp.full(old.shape, new, old.dtype)
        else:
            self.numbers.set_number("lr", lr)

    def __repr__(self) -> str:
        return f"Constant({show(self.rate(0))})"


class Function(Schedule):
    """A schedule from any callable of the integer step, such as those of optax."""

    function: Callable[..., Any] = kept(as_given, doc="from the step to the rate")
    clock = counted_by("step")

    def at(self, step: StepCount) -> Any:
        """Return ``function(step)``."""
        depend_on(self._revision)
        # The integer, as optax gives it to a schedule.
        return self.function(add_counts(step, next_step(self.last_call.value)))

    def rate(self, t: Array) -> Any:
        """Return ``function(t)``."""
        return self.function(t)

    @property
    def base(self) -> Any:
        """Raise HyperparameterError: a callable has no base rate."""
        raise HyperparameterError(
            message(
                "A decay by the schedule multiplier needs a schedule that knows its "
                "base rate; a callable does not.",
                help="write bo.optim.LambdaLR(lr, factor).",
            )
        )

    def __repr__(self) -> str:
        return f"Function({getattr(self.function, '__name__', self.function)})"


def as_schedule(lr: ScalarOrSchedule, owner: str = "", name: str = "lr") -> Schedule:
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
    # A Variable of another framework is wrapped, so that it is read at each step.
    held = wrap(lr)
    if is_number(held):
        return Constant(held, owner=owner)
    if hasattr(lr, "step_epoch"):
        kind = type(lr)
        raise HyperparameterError(
            message(
                f"{name}: the {kind.__name__} of {kind.__module__.partition('.')[0]} "
                "keeps its own step count, which brainopt cannot advance.",
                help="take the schedule of that name from bo.optim; those of "
                "braintools return the negated rate when they are called.",
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
    if name == "lr":
        refuse_negative(lr, f"lr of this {owner or 'optimizer'}")
    return Function(lr)


def refuse_negative(
    function: Callable[[Array], Any], name: str, start: int = 0
) -> None:
    """Raise `HyperparameterError` if the first result of a callable is below 0.

    Args:
        function: returns a rate, or a factor of it, for a count.
        name: of it, in the error.
        start: the first count.
    """
    try:
        first = float(function(jnp.full((), start, jnp.int32)))
    except Exception:  # what it needs may come later; an update reports its own errors
        return
    if first < 0:
        raise HyperparameterError(
            message(
                f"{name}: the callable returns {first:g} for the first step.",
                help="a rate is positive and goes downhill; schedules of braintools "
                "return the negated one, take that of the same name from bo.optim.",
            )
        )


def is_number(value: PyTree) -> TypeGuard[Scalar]:
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
