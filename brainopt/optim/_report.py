# SPDX-License-Identifier: Apache-2.0
"""The table that ``opt.summary()`` prints."""

from __future__ import annotations

import dataclasses
from typing import Any


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
    """What ``opt.summary()`` returns; printing it draws the tables.

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
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        rows = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in (head, *body)
        ]
        rule = "─" * max(map(len, rows))
        groups = [f"group {i}: {text}" for i, text in enumerate(self.groups)]
        total = f"total: {len(self.lines)} variables, {self.nbytes:,} bytes of state"
        return "\n".join([self.title, rows[0], rule, *rows[1:], rule, *groups, total])

    __repr__ = __str__


def report(optimizer: Any) -> Report:
    """Return the report of an optimizer."""
    lines = []
    for path, leaf in optimizer._leaves():
        slots = optimizer.slots[path]
        masked = optimizer.mask is not None and not optimizer.mask(path, leaf)
        notes = ["no decay"] * masked + ["frozen"] * (path in optimizer.frozen)
        lines.append(
            Line(
                path=path,
                shape=leaf.shape,
                dtype=str(leaf.dtype),
                group=optimizer.group_of(path, leaf),
                slots=", ".join(slots),
                nbytes=sum(variable.value.nbytes for variable in slots.values()),
                state=", ".join(notes),
            )
        )
    own = sum(v.value.nbytes for v in optimizer._own().values())
    return Report(
        title=f"{type(optimizer).__name__}, step {int(optimizer.step.value)}",
        lines=tuple(lines),
        groups=tuple(
            f"{group!r}, variables: {sum(line.group == i for line in lines)}"
            for i, group in enumerate(optimizer.groups)
        ),
        nbytes=own + sum(line.nbytes for line in lines),
    )
