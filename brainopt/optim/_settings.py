# SPDX-License-Identifier: Apache-2.0
"""The settings of an optimizer as its user sees them: rates, groups, freezing."""

from __future__ import annotations

import contextlib
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer

from .._select import Choice, refuse_unmatched
from .._typing import Where
from ..core import Variable, wrap
from ..errors import HyperparameterError, PathError, message
from ._core import Core, HyperCache
from ._parameters import TrainedVariables
from .engine._tree import named
from .schedules._schedule import Constant, Schedule, as_schedule, is_number
from .settings._groups import Group, GroupView, refuse_inside_transforms
from .settings._options import suggest

_FIXED = ("precision", "seed", "nonfinite", "max_nonfinite", "monitor")
_PARTS = {
    "clip_norm": ("clip", "clip_norm"),
    "clip_value": ("clip", "clip_value"),
    "accumulate": ("accumulator", "every"),
}


class Settings(Core):
    """Abstract: reading and changing what a step uses, between steps."""

    _trained: TrainedVariables

    @property
    def lr(self) -> Schedule:
        """The schedule; assign a number, Variable, schedule or callable.

        A number in the place of a number takes effect at the next step without
        compiling; another kind of schedule compiles once.
        """
        return self.schedule_of(0)

    def set_rate(self, index: int, lr: Any) -> None:
        """Set the learning rate of one group; see `lr`."""
        group = self.groups[index]
        owner = type(self).__name__
        number = is_number(lr) and not isinstance(wrap(lr), Variable)
        if isinstance(group.schedule, Constant) and number:
            group.schedule.set_value(lr)
            return
        refuse_inside_transforms()
        group.schedule = as_schedule(lr, owner)
        self._count_by_step(group)

    def rate_of(self, index: int = 0) -> Any:
        """Return the learning rate that a group uses at the next update, 0-d."""
        rate = jnp.asarray(HyperCache(self, self.step.value).rate(index))
        group = self.groups[index]
        return rate * group.lr_mult if "lr_mult" in group.numbers.names else rate

    @property
    def current_lr(self) -> Any:
        """The learning rate of the next update, a 0-d array."""
        return self.rate_of(0)

    def __getattr__(self, name: str) -> Any:
        groups = self.__dict__.get("groups")
        if groups and name in groups[0].numbers.names:
            return groups[0].now(name, self.step.value)
        if groups and name in groups[0].options:
            return groups[0].options[name]
        if groups and name == "betas" and "beta2" in groups[0].numbers.names:
            return self.beta1, self.beta2
        if name in _PARTS and _has_part(self, name):
            return getattr(getattr(self, _PARTS[name][0]), _PARTS[name][1])
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.set_rate(0, value)
        elif "_member" not in self.__dict__:  # still in its constructor
            super().__setattr__(name, value)
        elif name in self.groups[0].numbers.names:
            for group, shares in _sharing(self.groups, name):
                group.change(name, value, shares)
        elif name == "betas" and "beta2" in self.groups[0].numbers.names:
            for beta, new in self.groups[0].checked_betas(value).items():
                setattr(self, beta, new)
        elif name in _PARTS:
            if not _has_part(self, name):
                raise HyperparameterError(
                    message(
                        f"This {type(self).__name__} was made without {name}.",
                        help=f"give {name}= at construction; it may change from there.",
                    )
                )
            setattr(getattr(self, _PARTS[name][0]), _PARTS[name][1], value)
        elif name == "mask":
            self._check_mask(value)
            super().__setattr__(name, None if value is None else Choice(value))
        elif name in self.groups[0].options or name in _FIXED:
            raise AttributeError(f"{name} of {type(self).__name__} is fixed.")
        else:
            self._refuse_slip(name)
            super().__setattr__(name, value)

    def _refuse_slip(self, name: str) -> None:
        if name in self.__dict__ or name[0] == "_" or hasattr(type(self), name):
            return
        first = self.groups[0]
        known = ("lr", "betas", *first.numbers.names, *first.options, *_PARTS)
        if hint := suggest(name, known):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}; {hint}"
            )

    # --- groups as torch has them

    @property
    def param_groups(self) -> list[GroupView]:
        """The groups as torch shows them; entries may be read and set."""
        return [GroupView(self, i) for i in range(len(self.groups))]

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that a group gets where it says nothing else."""
        return {k: v for k, v in self.param_groups[0].items() if k != "params"}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train more variables, with settings of their own.

        Args:
            param_group: ``params`` (as ``train_vars``) and any of ``lr``, the numbers
                and options, ``betas``, ``lr_mult``, ``sign``, ``bounds``,
                ``constraint``, ``name``. What is missing is as in the first group.

        Raises:
            HyperparameterError: a setting is unknown or out of range, or a variable is
                already in another group; nothing has changed.
        """
        settings = {k: v for k, v in param_group.items() if k != "params"}
        if "params" not in param_group:
            raise HyperparameterError(message("A parameter group needs 'params'."))
        with self._or_nothing():
            self._add_group(param_group["params"], settings, len(self.groups))

    def _add_group(self, params: Any, settings: dict[str, Any], index: int) -> None:
        group = self._group(settings, self.groups[0])
        if isinstance(params, Variable):
            params = [params]
        if isinstance(params, list | tuple):
            params = {str(index): list(params)}
        self._refuse_double(params, len(self.groups))
        self.groups = [*self.groups, group]
        self._count_by_step(group)
        self._take_in(params, len(self.groups) - 1)

    def _refuse_double(self, params: Any, index: int) -> None:
        trained = self._trained
        taken = {v: p for p, v in trained.variables.items()}
        double = [
            f"{taken[v]}: in group {self.group_of(taken[v], v.value)} and in {index}"
            for v in trained.find(params).values()
            if v in taken
        ]
        if double:
            raise HyperparameterError(
                message("A variable has settings from two groups:", double)
            )

    def _or_nothing(self) -> contextlib.AbstractContextManager[None]:
        raise NotImplementedError

    def _take_in(self, train_vars: Any, index: int | None = None) -> None:
        raise NotImplementedError

    def members(self, index: int) -> list[Variable]:
        """Return the variables of one group."""
        return [
            variable
            for path, variable in self._trained.variables.items()
            if any(
                self.group_of(name, leaf) == index
                for name, leaf in named({path: variable.value})
            )
        ]

    # --- freezing

    def freeze(self, *choices: Where, drop_slots: bool = False) -> list[str]:
        """Stop training some variables: no step, no decay, no change of their slots.

        Args:
            choices: paths, globs, … as for ``mask``; none means all.
            drop_slots: free their slots; thawed, they start anew.

        Returns:
            the paths that are frozen now.

        Raises:
            PathError: a choice fits no variable.
        """
        for path in self._chosen(choices):
            if drop_slots:
                self.slots[path] = {}
            self._count_missed(path)
            self.frozen = tuple(sorted({*self.frozen, path}))
        return list(self.frozen)

    def unfreeze(self, *choices: Where) -> list[str]:
        """Train frozen variables again; no choice means all.

        Returns:
            the paths that are still frozen.
        """
        thawed = set(self._chosen(choices))
        views = HyperCache(self, self.step.value)
        for path, leaf in self._leaves():
            if path in thawed and set(self.slots[path]) == {"missed_steps"}:
                for name, value in self._slots_of(path, leaf, views).items():
                    self.slots[path][name] = Variable(value, name=f"{path}.{name}")
                self.slots[path]["missed_steps"].value = self.step.value
        self.frozen = tuple(path for path in self.frozen if path not in thawed)
        return list(self.frozen)

    def _chosen(self, choices: tuple[Where, ...]) -> list[str]:
        leaves = self._leaves()
        if not choices:
            return [path for path, _ in leaves]
        fits = [Choice(choice) for choice in choices]
        refuse_unmatched(
            "These fit no variable of this optimizer:",
            fits,
            leaves,
            "it has none; in the functional core, give None as the gradient of what "
            "stays.",
        )
        return [p for p, leaf in leaves if any(fit(p, leaf) for fit in fits)]

    def _leaves(self) -> list[tuple[str, Any]]:
        return named(self._trained.values())

    def _count_missed(self, path: str) -> None:
        if "missed_steps" not in self.slots[path]:
            self.slots[path]["missed_steps"] = Variable(jnp.zeros((), jnp.int32))
            self.revision.changed()

    # --- what holds

    def explain(self, path: str) -> str:
        """Say which rule won for a variable, and what holds for it.

        Raises:
            PathError: no variable has this path.
        """
        known = dict(self._leaves())
        if path not in known:
            raise PathError(
                message(
                    f"{path!r} is no variable of this optimizer.",
                    help=f"its variables are {', '.join(known)}.",
                )
            )
        leaf = known[path]
        index = self.group_of(path, leaf)
        group = self.groups[index]
        why = f"rule {group.label!r}" if group.chosen else "its parameter group"
        lines = [f"{path}: group {index} ({why if index else 'no rule matches'})"]
        settings = {"lr": f"{float(self.rate_of(index)):g}"}
        settings |= group.settings(self.step.value)
        lines += [f"  {name} = {text}" for name, text in settings.items()]
        if self.mask is not None and not self.mask(path, leaf):
            lines.append("  masked: no weight decay")
        if path in self.frozen:
            lines.append("  frozen")
        return "\n".join(lines)

    def metrics(self) -> dict[str, Any]:
        """Return what is known of the last update, 0-d arrays.

        Always ``step`` and ``lr``; ``skipped`` and ``in_a_row`` with ``nonfinite=``;
        ``micro_batches`` with ``accumulate=``; ``grad_norm``, ``param_norm``,
        ``update_norm`` and ``update_ratio`` with ``monitor=True``.
        """
        found = {"step": self.step.value, "lr": self.current_lr}
        if self.guard is not None:
            found["skipped"] = self.guard.skipped.value
            found["in_a_row"] = self.guard.in_a_row.value
        if self.accumulator is not None:
            found["micro_batches"] = self.accumulator.seen.value
        if self.monitor is not None:
            names = ("grad_norm", "param_norm", "update_norm")
            found |= {name: getattr(self.monitor, name).value for name in names}
            size = jnp.maximum(found["param_norm"], jnp.finfo(jnp.float32).tiny)
            found["update_ratio"] = found["update_norm"] / size
        return found

    def __repr__(self) -> str:
        shown = {"lr": repr(self.groups[0].schedule)}
        shown |= self.groups[0].settings(self.step.value)
        inside = ", ".join(f"{name}={text}" for name, text in shown.items())
        return f"{type(self).__name__}({inside})"


def _has_part(optimizer: Any, name: str) -> bool:
    part, number = _PARTS[name]
    held = optimizer.__dict__.get(part)
    return held is not None and number in held.numbers.names


def _sharing(groups: list[Group], name: str) -> list[tuple[Group, Any]]:
    """The first group and those that still have its number or its schedule.

    Beside each stands whether it has, which is not known inside a compiled function.
    """
    schedule, number = groups[0].schedules.get(name), groups[0].numbers.number(name)
    found: list[tuple[Group, Any]] = [(groups[0], True)]
    for group in groups[1:]:
        if group.schedules.get(name) is schedule:
            same = True if schedule else group.numbers.number(name) == number
            if isinstance(same, Tracer) or same:
                found.append((group, same))
    return found
