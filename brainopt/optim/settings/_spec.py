# SPDX-License-Identifier: Apache-2.0
"""The settings of a group, parsed and checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.core import Tracer

from ..._typing import Model, ScalarOrSchedule, Values
from ...core import converted, is_quantity, with_mantissa
from ...errors import HyperparameterError, message
from ..hyperparameters._declared import Declared
from ..hyperparameters._fields import Number, Option, Together
from ..hyperparameters._names import unknown_of
from ..hyperparameters._numbers import scalar
from ..schedules._schedule import Schedule, as_schedule, is_number

_OF_A_RULE = (
    *("match", "lr", "lr_mult", "sign", "bounds", "constraint", "frozen", "name"),
)


@dataclasses.dataclass
class GroupSpec:
    """The settings of a group, checked, and in the form in which they are kept.

    Attributes:
        owner: the class of the optimizer, for errors.
        label: how the group is called.
        match: what chooses its variables, or None.
        lr: the learning rate, or None where it is that of the first group.
        numbers: by name; 0 where a schedule gives it.
        schedules: those that give a number.
        options: by name.
        off: the numbers that are 0 for good, and keep no slot.
        own: the numbers that were given for this group.
        constraints: ``sign`` and ``constraint``.
        frozen: whether its variables are frozen from the start.
        one: 1 in the unit of the bounds, or None where they have none.
    """

    owner: str
    label: str
    match: Any
    lr: Any
    numbers: dict[str, Any]
    schedules: dict[str, Schedule]
    options: dict[str, Any]
    off: frozenset[str]
    own: frozenset[str]
    constraints: tuple[Any, Any]
    frozen: bool = False
    one: Any = None


def parse(kind: type, settings: Values, parent: Any = None) -> GroupSpec:
    """Return the settings of a group as they are kept.

    Args:
        kind: the class of the optimizer.
        settings: ``lr``, numbers and options by name; what is missing comes from
            ``parent``. Of a rule also ``match``, ``lr_mult``, ``sign`` (an array of
            ±1 and 0, or a number), ``bounds`` (low, high; None for none; numbers, or
            quantities) and
            ``constraint`` (a function of the new parameter).
        parent: the first group of the optimizer.

    Raises:
        HyperparameterError: listing unknown settings, and numbers out of range.
    """
    owner = kind.__name__
    declared: Declared = kind._declared  # type: ignore[attr-defined]
    numbers, options = declared.of(Number), declared.of(Option)
    settings = _taken_apart(settings, declared, owner)
    names = [name for name, field in numbers.items() if not field.is_limit]
    _refuse_unknown(settings, (*names, *options, *_OF_A_RULE), owner)
    # A number with a schedule keeps its entry in the vector, as 0: the vector of a
    # group has the same names whatever is scheduled.
    own = {k: numbers[k].given(settings[k]) for k in names if k in settings}
    scheduled = {k: v for k, v in own.items() if not is_number(v)}
    values = {k: 0.0 if k in scheduled else own.get(k, _held(parent, k)) for k in names}
    if parent is not None:
        values["lr_mult"] = settings.get("lr_mult", 1.0)
    limits, one = _bounds(settings.get("bounds"))
    values |= limits
    lr = settings.get("lr")
    if lr is None and parent is None:
        raise HyperparameterError(message(f"{owner} needs a learning rate."))
    return GroupSpec(
        owner=owner,
        label=label_of(settings),
        match=settings.get("match"),
        lr=lr,
        numbers={name: scalar(value, name) for name, value in values.items()},
        schedules=_inherited(parent, own)
        | {k: as_schedule(v, owner, k) for k, v in scheduled.items()},
        options=_checked(options, settings, parent, owner),
        off=_off(numbers, own, parent),
        own=frozenset(own),
        constraints=_constraints(settings, owner),
        frozen=_is_frozen(settings, owner),
        one=one,
    )


def label_of(settings: Values) -> str:
    """Return the name of a group, or its pattern; nothing where it has neither."""
    name = settings.get("name", settings.get("match"))
    if isinstance(name, re.Pattern):
        return f"re:{name.pattern}"
    several = isinstance(name, list | tuple | set | frozenset) and name
    if several and all(isinstance(part, str) for part in name):
        return ", ".join(name)
    return name if isinstance(name, str) else ""


def _taken_apart(settings: Values, declared: Declared, owner: str) -> dict[str, Any]:
    """Return settings with numbers by name where several were given as one."""
    if not isinstance(settings, Mapping):
        raise HyperparameterError(
            message(
                f"A group of this {owner} is a dict, not {settings!r}.",
                help="groups=[{'match': '*.bias', 'lr': 1e-3}].",
            )
        )
    flat = dict(settings)
    for name, field in declared.of(Together).items():
        if flat.get(name) is not None:
            flat |= field.split(flat[name])
        flat.pop(name, None)
    return flat


def _checked(
    options: Mapping[str, Option],
    settings: Values,
    parent: Any,
    owner: str,
) -> dict[str, Any]:
    """Return all options, those of the parent where none is given."""
    given = {name: settings[name] for name in options if name in settings}
    problems = [options[name].problem(value) for name, value in given.items()]
    if any(problems):
        raise HyperparameterError(
            message(
                f"These settings of {owner} are out of range:", filter(None, problems)
            )
        )
    held = {} if parent is None else parent.options
    return {**held, **{k: options[k].stored(value) for k, value in given.items()}}


def _off(
    numbers: Mapping[str, Number], own: Mapping[str, Any], parent: Any
) -> frozenset[str]:
    """Return the numbers that are 0 for good and keep no slot."""
    # Decided once, at construction: slots cannot appear while a state is in use.
    held = frozenset() if parent is None else parent.off
    may_be_off = [name for name, field in numbers.items() if field.has_buffer]
    return frozenset(
        name
        for name in may_be_off
        if (is_off(own[name]) if name in own else name in held)
    )


def _refuse_unknown(settings: dict, known: tuple[str, ...], owner: str) -> None:
    if unknown := unknown_of(settings, known):
        raise HyperparameterError(
            message(
                f"A group of this {owner} has no such settings:",
                unknown,
                f"known are {', '.join(known)}.",
            )
        )


def _held(parent: Any, name: str) -> Any:
    if parent is None or name in parent.schedules:
        return 0.0
    return parent.numbers.number(name)


def _inherited(parent: Any, own: dict[str, Any]) -> dict[str, Schedule]:
    if parent is None:
        return {}
    return {k: s for k, s in parent.schedules.items() if k not in own}


def _bounds(bounds: Any) -> tuple[dict[str, Any], Any]:
    """Return the limits by name as numbers, and 1 in the unit that they have, or None.

    Raises:
        HyperparameterError: they are no limits, or have no unit in common.
    """
    if bounds is None:
        return {}, None
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise _no_bounds(bounds) from None
    limits = {"lower": low, "upper": high}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    one = None
    if any(map(is_quantity, limits.values())):
        like = next(filter(is_quantity, limits.values()))
        what = f"bounds={bounds!r}"
        limits = {name: in_unit(x, like, what) for name, x in limits.items()}
        one = with_mantissa(like, 1.0)
    try:
        numbers = [float(limit) for limit in limits.values()]
    except (TypeError, ValueError):
        raise _no_bounds(bounds) from None
    if numbers != sorted(numbers):
        raise _no_bounds(bounds)
    return limits, one


def _no_bounds(bounds: Any) -> HyperparameterError:
    return HyperparameterError(
        message(
            f"bounds={bounds!r}.",
            help="give (low, high) with low <= high; None for no limit.",
        )
    )


def in_unit(value: Any, like: Any, what: str) -> Any:
    """Return the number of ``value`` in the unit of ``like``.

    Raises:
        HyperparameterError: the two have no unit in common.
    """
    found, problems = converted(value, like)
    if problems:
        raise HyperparameterError(
            message(
                f"{what}: the units do not fit:",
                problems,
                "give limits in a unit of the variable; those of one dimension are "
                "converted.",
            )
        )
    return found.mantissa if is_quantity(found) else found


def _constraints(settings: Values, owner: str) -> tuple[Any, Any]:
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


def _is_frozen(settings: Values, owner: str) -> bool:
    frozen = settings.get("frozen", False)
    if not isinstance(frozen, bool | np.bool_):
        raise HyperparameterError(
            message(f"frozen={frozen!r} in a group of this {owner}: True or False.")
        )
    return bool(frozen)


def is_off(number: ScalarOrSchedule) -> bool:
    """Whether ``number`` is a plain 0, for which an optimizer keeps no slot."""
    # An array of 0 may stand for a rate that a sweep sets later, so it gets its slot.
    return isinstance(number, int | float) and number == 0


def split(train_vars: Model) -> list[tuple[Any, dict[str, Any]]] | None:
    """Return (params, settings) of each group dict, or None if these are no groups."""
    if not (isinstance(train_vars, list | tuple) and train_vars):
        return None
    if not all(isinstance(g, dict) and "params" in g for g in train_vars):
        return None
    return [
        (g["params"], {k: v for k, v in g.items() if k != "params"}) for g in train_vars
    ]
