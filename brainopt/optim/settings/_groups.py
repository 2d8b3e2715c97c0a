# SPDX-License-Identifier: Apache-2.0
"""Groups: settings shared by some of the variables, and who belongs where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ... import runtime
from ..._select import Choice
from ...errors import HyperparameterError, TraceContextError, message
from ...runtime import depend_on
from .._hyperparameters import (
    HasHyperparams,
    Hyper,
    HyperparamVector,
    check,
    pair,
    scalar,
    show,
)
from ..schedules._schedule import Schedule, as_schedule, is_number
from ._options import check_options, suggest

_OF_A_RULE = ("match", "lr", "lr_mult", "sign", "bounds", "constraint", "name")


class Group(HasHyperparams):
    """Settings of some of the variables: numbers, schedules, options, constraints.

    Args:
        kind: the class of the optimizer.
        settings: ``lr``, numbers and options by name; what is missing comes from
            ``parent``. Of a rule also ``match``, ``lr_mult``, ``sign`` (an array of
            ±1 and 0, or a number), ``bounds`` (low, high; None for none) and
            ``constraint`` (a function of the new parameter).
        parent: the first group of the optimizer.
        names: the names of the numbers and, second, of the options.
    """

    def __init__(
        self,
        kind: Any,
        settings: Mapping[str, Any],
        parent: Group | None = None,
        names: tuple[Iterable[str], Iterable[str]] = ((), ()),
    ):
        numbers, options = map(tuple, names)
        owner = kind.__name__
        settings = _with_betas(settings, numbers, owner)
        _refuse_unknown(settings, (*numbers, *options, *_OF_A_RULE), owner)
        self.kind = owner
        self.label = str(settings.get("name", settings.get("match", "")))
        self.chosen: Choice | None = None
        if settings.get("match") is not None:
            self.chosen = Choice(settings["match"])
        given = {name: settings[name] for name in options if name in settings}
        held = {} if parent is None else parent.options
        self.options = {**held, **check_options(given, kind, held)}
        own = {name: settings[name] for name in numbers if name in settings}
        if parent is not None and "momentum" in own and "no_momentum" in self.options:
            self.options["no_momentum"] = is_off(own["momentum"])
        scheduled = {k: v for k, v in own.items() if not is_number(v)}
        values = {
            name: 0.0 if name in scheduled else own.get(name, _held(parent, name))
            for name in numbers
        }
        if parent is not None:
            values["lr_mult"] = settings.get("lr_mult", 1.0)
        values |= _bounds(settings.get("bounds"))
        values = {name: scalar(value, name) for name, value in values.items()}
        lr = settings.get("lr")
        if lr is None and parent is None:
            raise HyperparameterError(message(f"{owner} needs a learning rate."))
        plain_lr = {"lr": scalar(lr, "lr")} if is_number(lr) else {}
        ranges = {"lower": "[-inf, inf]", "upper": "[-inf, inf]", **kind.ranges}
        check({**plain_lr, **values}, kind.decays, ranges, owner)
        self.schedule = None if lr is None else as_schedule(lr, owner)
        self.schedules = _inherited(parent, own) | {
            k: as_schedule(v, owner, k) for k, v in scheduled.items()
        }
        self.sign, self.constraint = _constraints(settings, owner)
        derived = {n: _derived(parent, n) for n in kind.decays if n not in own}
        self.numbers = HyperparamVector(values, kind.decays, owner, ranges, derived)

    def __setattr__(self, name: str, value: Any) -> None:
        if "numbers" not in self.__dict__ or name[0] == "_" or name in self.__dict__:
            super().__setattr__(name, value)
        elif name in self.numbers.names:
            self.change(name, value)
        else:
            raise AttributeError(
                message(
                    f"A group of this {self.kind} has no attribute {name!r}.",
                    help="opt.param_groups[i]['lr'] = ... sets the rate of a group; "
                    "options are given at construction.",
                )
            )

    def view(self, lr: Any, step: Any, dtype: Any, by: Schedule | None) -> Hyper:
        """Return what a rule reads.

        Args:
            lr: the learning rate before ``lr_mult``.
            step: the updates done.
            dtype: the real dtype of computation.
            by: the schedule whose multiplier rules may ask for.
        """
        depend_on(self.revision)
        vector = self.numbers.value.astype(dtype)
        lr = jnp.asarray(lr).astype(dtype)
        if "lr_mult" in self.numbers.names:
            lr = lr * vector[self.numbers.names.index("lr_mult")]
        replace = {
            name: jnp.asarray(schedule.at(step)).astype(dtype)
            for name, schedule in self.schedules.items()
        }
        replace["lr"] = lr
        if by is not None:
            replace["eta"] = jnp.asarray(by.multiplier(step)).astype(dtype)
        return Hyper(self.numbers, vector, replace, self.options)

    def fit(self, path: str, param: Any) -> None:
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
                    f"{param.shape}."
                )
            )

    def constrain(self, param: Any, hyper: Hyper) -> Any:
        """Return the parameter with sign, bounds and constraint applied."""
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

    def change(self, name: str, value: Any, where: Any = True) -> None:
        """Set a number, or put a schedule in its place.

        Args:
            name: of the number.
            value: a number or a schedule.
            where: whether to change a number, possibly traced.
        """
        if name == "momentum" and self.options.get("no_momentum") and not is_off(value):
            raise HyperparameterError(
                message(
                    f"This {self.kind} was made without momentum and keeps no buffer "
                    "for it.",
                    help="give momentum= at construction; it may change from there.",
                )
            )
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

    def checked_betas(self, betas: Any) -> dict[str, Any]:
        """Return both by name, so that none is set if one is out of range."""
        beta1, beta2 = pair(betas)
        new = {"beta1": beta1, "beta2": beta2}
        self.numbers.check({k: v for k, v in new.items() if is_number(v)})
        return new

    def now(self, name: str, step: Any) -> Any:
        """Return a number as the next update uses it."""
        if name in self.schedules:
            return jnp.asarray(self.schedules[name].at(step))
        return self.numbers.number(name)

    def settings(self, step: Any) -> dict[str, str]:
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


class GroupView(MutableMapping):
    """A group as torch shows it: ``opt.param_groups[0]["lr"] = 0.1``.

    Keys are ``params`` (the variables), ``lr``, the numbers, the options, and
    ``betas`` where there are ``beta1`` and ``beta2``.
    """

    def __init__(self, optimizer: Any, index: int):
        self._optimizer = optimizer
        self._index = index

    @property
    def _group(self) -> Group:
        return self._optimizer.groups[self._index]

    def __getitem__(self, key: str) -> Any:
        group, step = self._group, self._optimizer.step.value
        if key == "params":
            return self._optimizer.members(self._index)
        if key == "lr":
            return _as_number(self._optimizer.rate_of(self._index))
        if key == "betas" and "beta2" in group.numbers.names:
            return self["beta1"], self["beta2"]
        if key in group.numbers.names:
            return _as_number(group.now(key, step))
        return group.options[key]

    def __setitem__(self, key: str, value: Any) -> None:
        group = self._group
        if key == "lr":
            self._optimizer.set_rate(self._index, value)
        elif key == "betas":
            for name, beta in group.checked_betas(value).items():
                group.change(name, beta)
        elif key in group.numbers.names:
            group.change(key, value)
        else:
            raise HyperparameterError(
                message(f"{key!r} of a group cannot be changed after construction.")
            )

    def __delitem__(self, key: str) -> None:
        raise TypeError("A setting of a group cannot be deleted.")

    def __iter__(self) -> Iterator[str]:
        yield from ("params", "lr")
        if "beta2" in self._group.numbers.names:
            yield "betas"
        yield from self._group.numbers.names
        yield from self._group.options

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr({k: v if k != "params" else len(v) for k, v in self.items()})


def refuse_inside_transforms() -> None:
    """Raise `TraceContextError` where a schedule cannot be replaced."""
    if runtime.top() is not None:
        raise TraceContextError(
            message("A schedule cannot be replaced inside a transformed function.")
        )


def is_off(number: Any) -> bool:
    """Whether ``number`` is a plain 0, for which an optimizer keeps no slot."""
    return isinstance(number, int | float) and number == 0


def split(train_vars: Any) -> list[tuple[Any, dict[str, Any]]] | None:
    """Return (params, settings) of each group dict, or None if these are no groups."""
    if not (isinstance(train_vars, list | tuple) and train_vars):
        return None
    if not all(isinstance(g, dict) and "params" in g for g in train_vars):
        return None
    return [
        (g["params"], {k: v for k, v in g.items() if k != "params"}) for g in train_vars
    ]


def _with_betas(settings: Any, numbers: tuple[str, ...], owner: str) -> dict:
    if not isinstance(settings, Mapping):
        raise HyperparameterError(
            message(
                f"A group of this {owner} is a dict, not {settings!r}.",
                help="groups=[{'match': '*.bias', 'lr': 1e-3}].",
            )
        )
    settings = dict(settings)
    if settings.get("betas") is not None and "beta2" in numbers:
        betas = pair(settings.pop("betas"))
        settings |= dict(zip(("beta1", "beta2"), betas, strict=True))
    return settings


def _refuse_unknown(settings: dict, known: tuple[str, ...], owner: str) -> None:
    unknown = [
        f"{name}: {suggest(name, known)}".removesuffix(": ")
        for name in settings
        if name not in known
    ]
    if unknown:
        raise HyperparameterError(
            message(
                f"A group of this {owner} has no such settings:",
                unknown,
                f"known are {', '.join(known)}.",
            )
        )


def _held(parent: Group | None, name: str) -> Any:
    if parent is None or name in parent.schedules:
        return 0.0
    return parent.numbers.number(name)


def _derived(parent: Group | None, name: str) -> list[Any]:
    if parent is None or name in parent.schedules:
        return []
    return parent.numbers.derived(name)


def _inherited(parent: Group | None, own: dict[str, Any]) -> dict[str, Schedule]:
    if parent is None:
        return {}
    return {k: s for k, s in parent.schedules.items() if k not in own}


def _bounds(bounds: Any) -> dict[str, Any]:
    if bounds is None:
        return {}
    try:
        low, high = bounds
        fine = low is None or high is None or not float(low) > float(high)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise HyperparameterError(
            message(
                f"bounds={bounds!r}.",
                help="give (low, high) with low <= high; None for no limit.",
            )
        )
    limits = {"lower": low, "upper": high}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _constraints(settings: dict[str, Any], owner: str) -> tuple[Any, Any]:
    sign, constraint = settings.get("sign"), settings.get("constraint")
    problems = []
    if sign is not None and not isinstance(sign, Tracer):
        signs = np.asarray(sign)
        if signs.dtype.kind not in "iufb" or not np.isin(signs, (-1, 0, 1)).all():
            problems.append("sign: +1, -1, 0, or an array of these")
    if constraint is not None and not callable(constraint):
        problems.append(f"constraint: a function, not {constraint!r}")
    if problems:
        raise HyperparameterError(message(f"A group of this {owner}:", problems))
    return sign, constraint


def _as_number(value: Any) -> Any:
    # Through its shortest text, so that a rate set to 0.01 reads 0.01 again.
    return value if isinstance(value, Tracer) else float(str(np.asarray(value)[()]))
