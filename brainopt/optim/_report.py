# SPDX-License-Identifier: Apache-2.0
"""Reports on an optimizer: its table, its rules, its norms."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import jax
import jax.numpy as jnp

from .._display import table_html, table_text
from ..errors import HyperparameterError, PathError, message
from ._cautions import look_at
from ._stepping import owned
from .engine._stages import NORMS
from .engine._tree import named


@dataclasses.dataclass(frozen=True)
class Line:
    """One variable in a report."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    group: int
    slots: str
    nbytes: int
    state: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of ``opt.summary()``; printing it draws the tables.

    Attributes:
        title: the optimizer and its settings.
        lines: one for each variable.
        groups: the settings of each group.
        nbytes: bytes of the slots and counters.
    """

    title: str
    lines: tuple[Line, ...]
    groups: tuple[str, ...]
    nbytes: int

    def __str__(self) -> str:
        table = table_text(*self._table())
        return "\n".join([self.title, *table, table[1], *self._below()])

    def _repr_html_(self) -> str:
        return table_html(*self._table(), above=[self.title], below=self._below())

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = ("path", "shape", "dtype", "group", "slots", "slot bytes", "")
        body = [
            (
                n.path,
                str(n.shape),
                n.dtype,
                str(n.group),
                n.slots,
                f"{n.nbytes:,}",
                n.state,
            )
            for n in self.lines
        ]
        return head, body

    def _below(self) -> list[str]:
        groups = [f"group {i}: {text}" for i, text in enumerate(self.groups)]
        total = f"total: {len(self.lines)} variables, {self.nbytes:,} bytes of state"
        return [*groups, total]

    __repr__ = __str__


def summary(optimizer: Any) -> Report:
    """Return a table of its variables, groups, settings and bytes."""
    look_at(optimizer)
    lines = []
    for path, leaf in named(optimizer._trained.values()):
        slots = optimizer.slots[path]
        masked = optimizer.mask is not None and not optimizer.mask(path, leaf)
        notes = ["no decay"] * masked + ["frozen"] * (path in optimizer.frozen)
        lines.append(
            Line(
                path=path,
                shape=leaf.shape,
                dtype=str(leaf.dtype),
                group=optimizer._settings.index(path, leaf),
                slots=", ".join(slots),
                nbytes=sum(variable.value.nbytes for variable in slots.values()),
                state=", ".join(notes),
            )
        )
    own = sum(v.value.nbytes for v in owned(optimizer).values())
    return Report(
        title=f"{type(optimizer).__name__}, step {int(optimizer.step.value)}",
        lines=tuple(lines),
        groups=tuple(
            f"{group!r}, variables: {sum(line.group == i for line in lines)}"
            f"{_epochs(optimizer, group.schedule)}"
            for i, group in enumerate(optimizer.groups.values())
        ),
        nbytes=own + sum(line.nbytes for line in lines),
    )


def _epochs(optimizer: Any, schedule: Any) -> str:
    """Say how many epochs a schedule has counted, if it counts them."""
    if schedule is None or schedule.clock != "epoch":
        return ""
    done, updates = int(schedule.last_epoch.value) + 1, int(optimizer.step.value)
    calls = "" if done else f"; step_epoch() was not called in {updates} updates"
    return f", epochs: {done}{calls * (updates > 0)}"


def as_html(self: Any) -> str:
    """Return its settings and its table for a notebook."""
    return f"<code>{html.escape(line(self))}</code>{summary(self)._repr_html_()}"


def line(self: Any) -> str:
    """Return the settings of all variables in one line."""
    shown = {"lr": repr(self.groups[0].schedule)}
    shown |= self.groups[0].settings(self.step.value)
    inside = ", ".join(f"{name}={text}" for name, text in shown.items())
    return f"{type(self).__name__}({inside})"


def explain(optimizer: Any, path: str) -> str:
    """Return which rule a variable has, and the settings that follow, as a text.

    Args:
        path: of the variable.

    Raises:
        PathError: no variable has this path.
    """
    known = dict(named(optimizer._trained.values()))
    if path not in known:
        raise PathError(
            message(
                f"{path!r} is no variable of this optimizer.",
                help=f"its variables are {', '.join(known)}.",
            )
        )
    leaf = known[path]
    index = optimizer._settings.index(path, leaf)
    group = optimizer.groups[index]
    why = f"rule {group.label!r}" if group.chosen else "its parameter group"
    lines = [f"{path}: group {index} ({why if index else 'no rule matches'})"]
    settings = {"lr": f"{float(optimizer._settings.rate(index)):g}"}
    settings |= group.settings(optimizer.step.value)
    lines += [f"  {name} = {text}" for name, text in settings.items()]
    if optimizer.mask is not None and not optimizer.mask(path, leaf):
        lines.append("  masked: no weight decay")
    if path in optimizer.frozen:
        lines.append("  frozen")
    return "\n".join(lines)


def metrics(optimizer: Any, *, per_variable: bool = False) -> dict[str, Any]:
    """Return the figures of the last update, 0-d arrays.

    Always ``step`` and ``lr``; ``skipped`` and ``in_a_row`` with ``nonfinite=``;
    ``micro_batches`` with ``accumulate=``; ``grad_norm``, ``param_norm``,
    ``update_norm`` and ``update_ratio`` with ``monitor=True``.

    Args:
        per_variable: the norms of each variable too, as ``grad_norm/layers.0.W``; they
            are noted with ``monitor="variables"``.

    Raises:
        HyperparameterError: the norms of each variable are not noted.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> w = bo.TrainVar([1.0, 2.0], name="w")
        >>> opt = bo.optim.SGD(0.1, {"w": w}, monitor="variables")
        >>> opt.update({"w": jnp.array([3.0, 4.0])})
        >>> float(opt.metrics(per_variable=True)["grad_norm/w"])
        5.0
    """
    found = {"step": optimizer.step.value, "lr": optimizer.current_lr}
    counters = {k: v.value for k, v in optimizer.counters.items() if k != "weight"}
    found |= counters
    # At parameters that are all zero the ratio is huge, and not infinite or NaN.
    if "param_norm" in found:
        found["update_ratio"] = _ratio(found["update_norm"], found["param_norm"])
    return found | _own_norms(optimizer) if per_variable else found


@jax.jit
def _ratio(update: Any, size: Any) -> Any:
    return update / jnp.maximum(size, jnp.finfo(jnp.float32).tiny)


def _own_norms(optimizer: Any) -> dict[str, Any]:
    if optimizer.monitor != "variables":
        raise HyperparameterError(
            message(
                f"This {type(optimizer).__name__} does not note the norms of each "
                "variable.",
                help="make it with monitor='variables'.",
            )
        )
    return {
        f"{name}/{path}": slots[name].value
        for name in NORMS
        for path, slots in optimizer.slots.items()
        if name in slots
    }
