# SPDX-License-Identifier: Apache-2.0
"""The settings that every optimizer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from ..._select import Choice
from ..._typing import ScalarOrSchedule, Values, Where
from ...errors import HyperparameterError, message
from ..engine._loss_scale import LossScale, Unscale
from ..engine._precision import PRECISIONS
from ..engine._stages import Accumulator, Clip, Guard, Monitor, Stage
from ..hyperparameters._fields import Field, Number, Option, Together, is_whole
from ..hyperparameters._numbers import HyperparamVector, scalar
from ._groups import DEFAULT, Group, Groups, add_group, group_class
from ._spec import parse

Scaling = LossScale | Literal["dynamic"] | None
DOCS = {
    "train_vars": "what to train: a Node (each `TrainVar`), a collector, a Variable, a "
    "foreign model, a list or dict of these, or a list of parameter groups",
    "groups": "rules by name, a list of dicts: ``match`` (as ``mask``) and any of "
    "``lr``, ``lr_mult``, the numbers and options, ``sign`` (+1, -1 or an array of "
    "these), ``bounds`` ``(low, high)``, ``constraint``, ``frozen``; the first that "
    "matches wins",
    "mask": "which variables ``weight_decay`` acts on: a path, a glob, "
    "``'re:…'``, ``'matrices'``, a callable ``(path, value)``, a tree of bools, or a "
    "list of these",
    "precision": "what keeps small changes of float16 and bfloat16 variables: "
    "``'plain'`` (nothing), ``'master'`` (a float32 copy), ``'kahan'`` (what rounding "
    "cut off), ``'stochastic'`` (rounding up or down by chance)",
    "nonfinite": "gradients with NaN or infinity are let in (``'propagate'``), make a "
    "step that changes nothing but two counters (``'skip'``), or raise",
    "max_nonfinite": "with ``'skip'`` or ``'raise'``, raise after so many in a row",
    "clip_norm": "the largest global norm of the gradients, over all groups",
    "clip_value": "the largest size of an element of a gradient",
    "monitor": "note norms for ``opt.metrics()``: True for those of all variables "
    "together, ``'variables'`` for those of each variable too",
    "accumulate": "micro-batches to a step; a gradient of None counts as zero, and one "
    "that is None in all of them leaves its variable alone; see ``opt.flush()``",
    "loss_scale": "``'dynamic'``, or a `LossScale`: gradients are those of "
    "``opt.scale_loss(loss)``, and a step that overflows is not taken",
    "zero": "the axis, or axes, of the mesh of the variables over which the state is "
    "divided (ZeRO stage 1); see `bo.sharding.zero`",
    "pack": "hold small variables of one kind as one array inside of compiled steps, "
    "which makes many of them much faster; for elementwise rules",
    "offload": "keep the state in ``'pinned_host'`` or ``'unpinned_host'`` memory",
}
"""Descriptions of the settings, for the documentation."""


class Rules(Field):
    """The groups: rules by name as they are given, `Group`s as they are kept."""

    def __init__(self) -> None:
        super().__init__((), DOCS["groups"])

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Rules: ...

    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Groups: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        found = super().__get__(obj, owner)
        return found if obj is None else Groups(found)

    def __set__(self, obj: Any, value: Sequence[Values] | None) -> None:
        super().__set__(obj, value)


class Mask(Field):
    """Which variables decay; may be replaced between steps."""

    def __init__(self) -> None:
        super().__init__(None, DOCS["mask"])

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Mask: ...

    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Choice | None: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return super().__get__(obj, owner)

    def __set__(self, obj: Any, value: Where | None) -> None:
        if value is not None and "weight_decay" not in obj._declared.fields:
            raise HyperparameterError(
                message(f"{type(obj).__name__} has no weight decay to mask.")
            )
        vars(obj)[self.name] = None if value is None else Choice(value)
        obj._revision.note(self.name, value)


class Switch(Field):
    """On or off; may be changed between steps, which compiles once."""

    def __set__(self, obj: Any, value: bool) -> None:
        vars(obj)[self.name] = bool(value)
        obj._revision.note(self.name, bool(value))


class Limit(Number):
    """A number of a stage, which exists only if it was given at construction."""

    def __init__(self, default: object, doc: str, range: str):
        super().__init__(default, "", doc, range, is_limit=True)

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        numbers = vars(obj).get("numbers")
        if numbers is None or self.name not in numbers.names:
            return self.default
        return numbers.number(self.name)

    def __set__(self, obj: Any, value: ScalarOrSchedule | None) -> None:
        if "numbers" not in vars(obj) or self.name not in obj.numbers.names:
            raise HyperparameterError(
                message(
                    f"This {type(obj).__name__} was made without {self.name}.",
                    help=f"give {self.name}= at construction; it may change from "
                    "there.",
                )
            )
        obj.numbers.set_number(self.name, value)

    def line(self) -> str:
        """Return its line under ``Args:``."""
        return f"{self.argument}: {self.doc}, in {self.range}."


def limits(kind: type, given: Values) -> HyperparamVector | None:
    """Return the numbers of the stages that were asked for.

    Raises:
        HyperparameterError: one is out of its range.
    """
    # Only numbers that differ from the default get an entry: a stage that is not asked
    # for adds no input to the step.
    accumulate = given["accumulate"]
    if not is_whole(accumulate):
        raise HyperparameterError(
            message(f"accumulate={accumulate!r} is no whole number in [1, inf).")
        )
    fields = kind._declared.of(Limit)  # type: ignore[attr-defined]
    values = {
        name: scalar(given[name], name)
        for name, field in fields.items()
        if given[name] is not None and given[name] != field.default
    }
    ranges = {name: fields[name].range for name in values}
    return HyperparamVector(values, (), kind.__name__, ranges) if values else None


def stages(optimizer: Any, frozen: frozenset[str] = frozenset()) -> tuple[Stage, ...]:
    """Return the stages that an optimizer was made with.

    Args:
        optimizer: its settings are read.
        frozen: the paths that are not trained.
    """
    # The order is explained in `engine._stages`.
    numbers = vars(optimizer).get("numbers")
    names = () if numbers is None else numbers.names
    clips = "clip_norm" in names or "clip_value" in names
    scale = optimizer.loss_scale
    guards = optimizer.nonfinite != "propagate" or scale is not None
    accumulator = Accumulator(frozen) if "accumulate" in names else None
    found = [
        Unscale(scale) if scale is not None else None,
        Guard(accumulator and accumulator.added) if guards else None,
        accumulator,
        Monitor() if optimizer.monitor else None,
        Clip() if clips else None,
    ]
    return tuple(stage for stage in found if stage is not None)


def check_shared(given: Values) -> None:
    """Raise `HyperparameterError` for a shared setting that is none of its choices."""
    groups, limit = given["groups"], given["max_nonfinite"]
    if isinstance(groups, Mapping | str) or not isinstance(groups, Iterable):
        raise HyperparameterError(
            message("groups= is a list of dicts, each with a 'match'.")
        )
    if given["precision"] not in PRECISIONS:
        raise HyperparameterError(
            message(f"precision={given['precision']!r}.", help=f"one of {PRECISIONS}.")
        )
    if given["nonfinite"] not in ("propagate", "skip", "raise"):
        raise HyperparameterError(
            message(
                f"nonfinite={given['nonfinite']!r}.",
                help="'propagate', 'skip' or 'raise'.",
            )
        )
    if isinstance(given["monitor"], str) and given["monitor"] != "variables":
        raise HyperparameterError(
            message(
                f"monitor={given['monitor']!r}.", help="False, True or 'variables'."
            )
        )
    _check_scale(given)
    if limit is None:
        return
    if given["nonfinite"] == "propagate":
        raise HyperparameterError(
            message(
                "max_nonfinite= counts steps that are not taken.",
                help="give nonfinite='skip' or 'raise' too.",
            )
        )
    if not (is_whole(limit) and limit >= 1):
        raise HyperparameterError(
            message(f"max_nonfinite={limit!r} is no whole number in [1, inf).")
        )


def _check_scale(given: Values) -> None:
    scale = given["loss_scale"]
    if not (scale is None or scale == "dynamic" or isinstance(scale, LossScale)):
        raise HyperparameterError(
            message(
                f"loss_scale={scale!r}.",
                help="'dynamic', or LossScale(initial=…, growth_interval=…).",
            )
        )
    raises = given["nonfinite"] == "raise" and given["max_nonfinite"] is None
    if scale is not None and raises:
        raise HyperparameterError(
            message(
                "With a loss scale some gradients overflow in every run, and "
                "nonfinite='raise' raises at the first.",
                help="give max_nonfinite= too, or leave nonfinite= out: steps that "
                "overflow are not taken.",
            )
        )


def as_kept(given: Values) -> dict[str, Any]:
    """Return the settings that are attributes as they are given."""
    names = ("precision", "nonfinite", "max_nonfinite", "zero", "offload")
    monitor = given["monitor"]
    monitor = monitor if monitor == "variables" else bool(monitor)
    whole: dict[str, Any] = {"monitor": monitor, "seed": int(given["seed"])}
    scale = given["loss_scale"]
    whole["loss_scale"] = LossScale() if scale == "dynamic" else scale
    whole["pack"] = bool(given["pack"])
    return {name: given[name] for name in names} | whole


def make_groups(kind: type, given: Values) -> dict[str, Group]:
    """Return the group of all variables, and those of the rules, by name."""
    fields = kind._declared.fields  # type: ignore[attr-defined]
    own = [k for k, f in fields.items() if isinstance(f, Number | Option | Together)]
    settings = {k: given[k] for k in ("lr", *own) if k in given}
    for name in fields:
        if isinstance(fields[name], Limit):
            settings.pop(name, None)
    first = group_class(kind)(parse(kind, settings))
    groups = {DEFAULT: first}
    for i, rule in enumerate(given["groups"]):
        add_group(kind, groups, _as_rule(kind, rule, first), f"rule{i}")
    return groups


def _as_rule(kind: type, rule: Mapping[str, Any], first: Group) -> Group:
    """Return the group of a rule.

    Raises:
        HyperparameterError: it has no ``match``, or a setting is out of range.
    """
    spec = parse(kind, rule, first)
    if spec.match is None:
        raise HyperparameterError(
            message(
                f"A rule of this {kind.__name__} has no 'match': {rule!r}.",
                help="groups=[{'match': '*.bias', 'lr': 1e-3}]; groups of "
                "variables go into train_vars, with 'params'.",
            )
        )
    return group_class(kind)(spec, first)


def as_set_now(optimizer: Any) -> Callable[[], None]:
    """Return a function that restores the settings that change between steps."""
    fields = type(optimizer)._declared.fields.items()
    kept = {k: getattr(optimizer, k) for k, f in fields if isinstance(f, Mask | Switch)}

    def set_back() -> None:
        for name, value in kept.items():
            if getattr(optimizer, name) is not value:
                setattr(optimizer, name, getattr(value, "where", value))

    return set_back
