# SPDX-License-Identifier: Apache-2.0
"""The settings of each variable in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, ScalarOrSchedule, StepCount, Values
from ...core import Variable
from ..engine._precision import wide
from ..engine._tree import real
from ..hyperparameters._hyper import Hyper
from ..schedules._schedule import Constant, Function, Schedule, as_schedule
from ._groups import Group, is_plain, refuse_inside_transforms, sharing


class Settings:
    """The settings of an optimizer as its attributes read and change them.

    Args:
        groups: the first holds for all that no rule chooses.
        members: the group of each path that was registered with one.
        step: the updates done.
    """

    def __init__(
        self, groups: Mapping[str, Group], members: Mapping[str, int], step: Variable
    ):
        self.groups = list(groups.values())
        self._members = members
        self._step = step

    def index(self, path: str, param: Array) -> int:
        """Return the index of the group whose settings a variable gets."""
        # A group that a variable was registered with wins over rules by name; among the
        # rules the first match wins.
        if path in self._members:
            return self._members[path]
        for i, group in enumerate(self.groups):
            if group.chosen is not None and group.chosen(path, param):
                return i
        return 0

    def number(self, name: str) -> Any:
        """Return a number as the next update uses it."""
        return self.groups[0].now(name, self._step.value)

    def set_number(self, name: str, value: ScalarOrSchedule) -> None:
        """Set a number in the first group, and where a group shares it."""
        for group, shares in sharing(self.groups, name):
            group.set_number(name, value, shares)

    def set_together(self, values: Values) -> None:
        """Set several numbers, or none if one is out of its range."""
        self.groups[0].check(values)
        for name, value in values.items():
            self.set_number(name, value)

    def option(self, name: str) -> Any:
        """Return an option."""
        return self.groups[0].options[name]

    def schedule(self, index: int = 0) -> Schedule:
        """Return the schedule of the learning rate of a group."""
        schedule = self.groups[index].schedule or self.groups[0].schedule
        assert schedule is not None
        return schedule

    def scaled(self, rate: Any, index: int, step: StepCount) -> Any:
        """Return a rate as the schedule of the first group scales that of a group.

        As in torch a group with a number of its own falls as the others do. A callable
        has no base, and leaves such numbers as they are.
        """
        first = self.groups[0].schedule
        group = self.groups[index]
        if not group.follows or first is None or isinstance(first, Constant | Function):
            return rate
        base, now = first.base, first.at(step)
        safe = jnp.where(base == 0, jnp.ones_like(base), base)
        return rate * jnp.where(base == 0, jnp.ones_like(now), now / safe)

    def rate(self, index: int = 0) -> Any:
        """Return the learning rate that a group uses at the next update, 0-d."""
        rate = jnp.asarray(self.schedule(index).at(self._step.value))
        rate = self.scaled(rate, index, self._step.value)
        group = self.groups[index]
        return rate * group.lr_mult if "lr_mult" in group.numbers.names else rate

    def set_rate(self, lr: ScalarOrSchedule, index: int = 0) -> None:
        """Set the learning rate of a group.

        A number in the place of a number takes effect at the next step without
        compiling; another kind of schedule compiles once.
        """
        group = self.groups[index]
        # A Variable in the place of a number is another input, and needs a new program.
        if isinstance(group.schedule, Constant) and is_plain(lr):
            group.schedule.set_value(lr)  # type: ignore[arg-type]  # a number
            return
        refuse_inside_transforms()
        group.schedule = as_schedule(lr, group.kind)
        group.follows = index > 0 and is_plain(lr)
        group.count_by(self._step)

    def hypers(
        self,
        mask: Callable[..., bool] | None,
        count: StepCount,
        around: Mapping[str, Any] | None = None,
    ) -> HyperCache:
        """Return the settings of each variable in the step after ``count`` steps."""
        return HyperCache(self, mask, count, around)


class HyperCache:
    """The settings of each variable in one step, each combination built once.

    Args:
        settings: those of the optimizer.
        mask: which variables decay, or None for all.
        count: the updates done.
        around: the true parameters by path, for a rule that runs at 0; see
            `Hyper.around`.
    """

    def __init__(
        self,
        settings: Settings,
        mask: Callable[..., bool] | None,
        count: StepCount,
        around: Mapping[str, Any] | None = None,
    ):
        self._around = around
        self.count = count
        self.programs: dict[Hyper, Any] = {}
        self._settings = settings
        self._mask = mask
        self._rates: dict[int, Any] = {}
        self._hypers: dict[Any, tuple[Hyper, Hyper]] = {}

    def rate(self, i: int) -> Any:
        """Return the learning rate of a group, before its ``lr_mult``."""
        # Groups without a rate of their own share the schedule of the first: it is
        # evaluated once in a step. While the step lasts it is alive, so is its id.
        schedule = self._settings.schedule(i)
        if id(schedule) not in self._rates:
            self._rates[id(schedule)] = schedule.at(self.count)
        return self._settings.scaled(self._rates[id(schedule)], i, self.count)

    def __call__(self, path: str, param: Array) -> tuple[Group, Hyper]:
        """Return the group of a variable and its settings in the right dtype."""
        i = self._settings.index(path, param)
        group = self._settings.groups[i]
        is_exempt = self._mask is not None and not self._mask(path, param)
        hyper = self._views(i, param)[is_exempt]
        if self._around is not None:
            hyper = hyper.around(self._around.get(path))
        return group, hyper

    def of_group(self, i: int, param: Array) -> Hyper:
        """Return the settings of a group in the dtype of a parameter."""
        return self._views(i, param)[0]

    def _views(self, i: int, param: Array) -> tuple[Hyper, Hyper]:
        """Return the settings of a group, and those of what a mask exempts."""
        dtype = real(wide(param.dtype))
        # Parameters of one group and dtype share a view, and thereby each slice and
        # each bias correction. Those that a mask exempts share the same table, see
        # `Hyper.without_decay`.
        if (i, dtype) not in self._hypers:
            schedule = self._settings.schedule(i)
            hyper = self._settings.groups[i].hyper(
                self.rate(i),
                self.count,
                dtype,
                lambda: self._settings.scaled(
                    schedule.multiplier(self.count), i, self.count
                ),
            )
            self._hypers[i, dtype] = hyper, hyper.without_decay()
        return self._hypers[i, dtype]
