# SPDX-License-Identifier: Apache-2.0
"""Groups: settings shared by some of the variables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ... import runtime
from ..._select import Choice
from ..._typing import (
    Array,
    DTypeLike,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    StepCount,
    Values,
)
from ...core import Variable, is_quantity, with_mantissa, wrap
from ...errors import HyperparameterError, TraceContextError, message
from ...runtime import depend_on
from ..hyperparameters._fields import Number, number
from ..hyperparameters._has_hyperparams import HasHyperparams
from ..hyperparameters._hyper import Hyper, HyperSource
from ..hyperparameters._numbers import HyperparamVector, check, scalar, show
from ..schedules._schedule import Schedule, as_schedule, is_number
from ._spec import GroupSpec, in_unit, is_off

_ANY = "[-inf, inf]"
_KEPT = frozenset(
    "kind label chosen options off schedules sign constraint schedule follows "
    "numbers frozen one".split()
)
"""The attributes of a group that are no numbers."""


LIMITS = ("lower", "upper")
"""The numbers that may have the unit of the variables."""

DEFAULT = "default"
"""The name of the group of all variables that no other group has."""


class Groups(Mapping[str, "Group"]):
    """The groups of an optimizer by name, or by their place.

    A group is called by its ``name``, a rule without one by its pattern, a group of
    listed variables by their paths.
    """

    def __init__(self, groups: dict[str, Group]):
        self._groups = groups

    def __getitem__(self, key: str | int) -> Group:
        if isinstance(key, str):
            return self._groups[key]
        return list(self._groups.values())[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        return repr(self._groups)


def add_group(kind: type, groups: dict[str, Group], group: Group, name: str) -> None:
    """Add a group under its name, or under ``name`` if it has none.

    Raises:
        HyperparameterError: another group is called so.
    """
    group.label = group.label or name
    if group.label in groups:
        raise HyperparameterError(
            message(
                f"Two groups of this {kind.__name__} are called {group.label!r}.",
                help="give one of them a `name`; files keep their settings by it.",
            )
        )
    groups[group.label] = group


class Group(HasHyperparams):
    """Abstract: settings of some of the variables of one class of optimizers.

    Each class of optimizers has a class of groups, see `group_class`: the numbers that
    the one declares are attributes of the other, by the same fields.

    Args:
        spec: the settings.
        parent: the first group of the optimizer.
    """

    lr_mult = number()
    lower = number(range=_ANY)
    upper = number(range=_ANY)
    _optimizer: ClassVar[type]

    def __init__(self, spec: GroupSpec, parent: Group | None = None):
        self.kind = spec.owner
        self.label = spec.label
        self.chosen = None if spec.match is None else Choice(spec.match)
        self.options = spec.options
        self.off = spec.off
        self.schedules = spec.schedules
        self.sign, self.constraint = spec.constraints
        self.frozen = spec.frozen
        self.one = spec.one
        fields = self._declared.of(Number)
        decays = [k for k in spec.numbers if k in fields and fields[k].is_decay]
        ranges = {k: f.range for k, f in fields.items() if not f.is_decay}
        # The rate is checked with the numbers, so that one error lists all misfits.
        plain_lr = {"lr": scalar(spec.lr, "lr")} if is_number(spec.lr) else {}
        check({**plain_lr, **spec.numbers}, decays, ranges, spec.owner)
        self.schedule = None if spec.lr is None else as_schedule(spec.lr, spec.owner)
        # A plain number is a base of its own for the schedule of the first group; a
        # schedule, `Constant` among them, stands for itself.
        self.follows = parent is not None and is_plain(spec.lr)
        # A β taken over from the first group is known as float32 only. Its derived
        # numbers, rounded from float64, are taken over too.
        derived = {n: _derived(parent, n) for n in decays if n not in spec.own}
        self.numbers = HyperparamVector(
            spec.numbers, decays, spec.owner, ranges, derived
        )

    @property
    def _settings(self) -> Group:
        return self

    def _check_attribute(self, key: str, value: ScalarOrSchedule) -> None:
        if key not in _KEPT and key[0] != "_" and key not in self.numbers.names:
            raise AttributeError(
                message(
                    f"A group of this {self.kind} has no attribute {key!r}.",
                    help="opt.param_groups[i]['lr'] = ... sets the rate of a group; "
                    "options are given at construction.",
                )
            )
        super()._check_attribute(key, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (self._optimizer,), self.__getstate__()

    def number(self, name: str) -> Any:
        """Return a kept number; `now` asks a schedule in its place."""
        return self.numbers.number(name)

    def hyper(
        self,
        lr: Scalar,
        step: StepCount,
        dtype: DTypeLike,
        multiplier: Callable[[], Scalar],
    ) -> Hyper:
        """Return the view that a rule reads.

        Args:
            lr: the learning rate before ``lr_mult``.
            step: the updates done.
            dtype: the real dtype of computation.
            multiplier: returns that of the schedule of the rate.
        """
        depend_on(self._revision)
        # One cast for all numbers; `Hyper` slices them out of the result.
        vector = self.numbers.value.astype(dtype)
        lr = jnp.asarray(lr).astype(dtype)
        if "lr_mult" in self.numbers.names:
            lr = lr * vector[self.numbers.names.index("lr_mult")]
        replace = {
            name: jnp.asarray(schedule.at(step)).astype(dtype)
            for name, schedule in self.schedules.items()
        }
        source = HyperSource(
            self.numbers,
            self.options,
            self.off,
            lambda: jnp.asarray(multiplier()).astype(dtype),
        )
        return Hyper(source, vector, {**replace, "lr": lr})

    def fit(self, path: str, param: Array) -> None:
        """Raise `HyperparameterError` if ``sign`` does not fit a variable."""
        shape = np.shape(self.sign) if self.sign is not None else ()
        try:
            fine = np.broadcast_shapes(shape, param.shape) == param.shape
        except ValueError:
            fine = False
        if not fine:
            raise HyperparameterError(
                message(
                    f"{path}: sign of shape {shape} for a variable of shape "
                    f"{param.shape}.",
                    help=_laid_along(shape, param.shape),
                )
            )

    def convert_bounds(self, path: str, value: PyTree, others: bool) -> None:
        """Convert bounds that have a unit to that of a variable.

        Args:
            path: of the variable.
            value: an array or a quantity of it.
            others: whether the bounds are in the unit of another variable already.

        Raises:
            HyperparameterError: the variable has no such unit, or another one than the
                others have.
        """
        if self.one is None:
            return
        new = {}
        for name in filter(self.numbers.names.__contains__, LIMITS):
            limit = with_mantissa(self.one, self.numbers.number(name))
            new[name] = in_unit(limit, value, f"{path}: bounds")
        if value.unit == self.one.unit:
            return
        if others:
            raise HyperparameterError(
                message(
                    f"The bounds of one group are in {self.one.unit}, and {path} is in "
                    f"{value.unit}.",
                    help="give variables of another unit a rule of their own.",
                )
            )
        for name, limit in new.items():
            self.numbers.set_number(name, limit)
        self.one = with_mantissa(value, 1.0)

    def constrain(self, param: Array, hyper: Hyper) -> Any:
        """Return the parameter with sign, bounds and constraint applied."""
        # Dale's principle: a weight that would change its sign becomes 0. The function
        # of the user is last, so that its result is stored as it is.
        if self.sign is not None:
            sign = jnp.broadcast_to(jnp.asarray(self.sign), param.shape)
            param = jnp.where(sign * param < 0, jnp.zeros_like(param), param)
        if "lower" in self.numbers.names:
            param = jnp.maximum(param, hyper.lower)
        if "upper" in self.numbers.names:
            param = jnp.minimum(param, hyper.upper)
        if self.constraint is not None:
            param = self.constraint(param)
        return param

    def set_number(
        self, name: str, value: ScalarOrSchedule, where: Array | bool = True
    ) -> None:
        """Set a number, or put a schedule in its place.

        Args:
            name: of the number.
            value: a number or a schedule.
            where: whether to change a number, possibly traced.
        """
        if name in LIMITS and is_quantity(value):
            value = in_unit(value, 0.0 if self.one is None else self.one, name)
        if name in self.off and not is_off(value):
            raise HyperparameterError(
                message(
                    f"This {self.kind} was made without {name} and keeps no buffer "
                    "for it.",
                    help=f"give {name}= at construction; it may change from there.",
                )
            )
        # Numbers are arrays, and may change in a trace. Which of them have a schedule
        # is Python: a trace that changed it would leave the change behind for all
        # others.
        if name in self.schedules or not is_number(value):
            refuse_inside_transforms()
            schedules = dict(self.schedules)
            schedules.pop(name, None)
            if not is_number(value):
                schedules[name] = as_schedule(value, self.kind, name)
            else:
                self.numbers.set_number(name, value)
            self.schedules = schedules
        else:
            self.numbers.set_number(name, value, where)

    def set_together(self, values: Values) -> None:
        """Set several numbers, or none if one is out of its range."""
        self.check(values)
        for name, value in values.items():
            self.set_number(name, value)

    def check(self, values: Values) -> None:
        """Raise `HyperparameterError` listing every number out of its range."""
        self.numbers.check({k: v for k, v in values.items() if is_number(v)})

    def count_by(self, step: Variable) -> None:
        """Have its schedules read the updates done."""
        for node in self.nodes().values():
            if isinstance(node, Schedule):
                node.count_by(step)

    def now(self, name: str, step: StepCount) -> Any:
        """Return a number as the next update uses it."""
        if name in self.schedules:
            return jnp.asarray(self.schedules[name].at(step))
        return self.numbers.number(name)

    def settings(self, step: StepCount) -> dict[str, str]:
        """Return the settings as short texts, for tables and explanations."""
        shown = {n: show(self.now(n, step)) for n in self.numbers.names}
        shown |= {n: repr(s) for n, s in self.schedules.items()}
        shown |= {n: str(v) for n, v in self.options.items() if v}
        if self.sign is not None:
            shown["sign"] = str(np.asarray(self.sign).tolist())
        if self.constraint is not None:
            shown["constraint"] = getattr(self.constraint, "__name__", "yes")
        return shown

    def __repr__(self) -> str:
        step = jnp.zeros((), jnp.int32)
        shown = {"lr": repr(self.schedule)} if self.schedule is not None else {}
        shown |= self.settings(step)
        inside = ", ".join(f"{name}={text}" for name, text in shown.items())
        return f"{self.label or 'group'}({inside})"


@functools.cache
def group_class(kind: type) -> type[Group]:
    """Return the class of the groups of a class of optimizers."""
    fields = kind._declared.of(Number)  # type: ignore[attr-defined]
    own = {name: field for name, field in fields.items() if not field.is_limit}
    # A class made by a call gets the module of its metaclass unless it is told.
    known = {"__module__": __name__, "_optimizer": kind}
    return type(Group)("Group", (Group,), own | known)


def _empty(kind: type) -> Group:
    return object.__new__(group_class(kind))


def is_plain(lr: PyTree) -> bool:
    """Whether a rate is a number, not a Variable or a schedule."""
    return lr is not None and is_number(lr) and not isinstance(wrap(lr), Variable)


def refuse_inside_transforms() -> None:
    """Raise `TraceContextError` where a schedule cannot be replaced."""
    if runtime.top() is not None:
        raise TraceContextError(
            message("A schedule cannot be replaced inside a transformed function.")
        )


def _derived(parent: Group | None, name: str) -> list[Any]:
    if parent is None or name in parent.schedules:
        return []
    return parent.numbers.derived(name)


def sharing(groups: list[Group], name: str) -> list[tuple[Group, Any]]:
    """Return the first group and those that still have its number or its schedule.

    The second part of each pair says whether it has; it is traced inside a compiled
    function.
    """
    # ``opt.eps = x`` sets it for all groups that never had a number of their own. That
    # is not recorded: a group that still has the number of the first one shares it.
    schedule, number = groups[0].schedules.get(name), groups[0].numbers.number(name)
    found: list[tuple[Group, Any]] = [(groups[0], True)]
    for group in groups[1:]:
        if group.schedules.get(name) is schedule:
            same = True if schedule else group.numbers.number(name) == number
            if isinstance(same, Tracer) or same:
                found.append((group, same))
    return found


def _laid_along(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say how an array of one axis is laid along that axis of a variable."""
    if len(shape) != 1 or shape[0] not in wanted:
        return f"give +1, -1, or an array of them that broadcasts to {wanted}."
    axis = wanted.index(shape[0])
    index = ", ".join([":"] + ["None"] * (len(wanted) - axis - 1))
    return f"sign[{index}] has one for each index of axis {axis}."
