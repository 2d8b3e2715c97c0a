# SPDX-License-Identifier: Apache-2.0
"""A table of what a node owns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from .. import runtime
from ..errors import message
from . import _walk
from ._value import entries, place

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of a summary."""

    path: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    place: str
    nbytes: int
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `summary` returns; printing it draws the table.

    Attributes:
        rows: one for each array, in order of the paths.
    """

    rows: tuple[Row, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(row.nbytes for row in self.rows)

    @property
    def size(self) -> int:
        """Elements of all arrays together."""
        return sum(_size(row) for row in self.rows)

    def __str__(self) -> str:
        head = ("path", "kind", "shape", "dtype", "device", "bytes")
        body = [
            (_path(r), r.kind, str(r.shape), r.dtype, r.place, f"{r.nbytes:,}")
            for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [_line(cells, widths) for cells in (head, *body)]
        kinds = sorted({row.kind for row in self.rows})
        totals = [
            _total(kind, [r for r in self.rows if r.kind == kind]) for kind in kinds
        ]
        rule = "─" * len(lines[0])
        return "\n".join(
            [lines[0], rule, *lines[1:], rule, *totals, _total("total", self.rows)]
        )

    __repr__ = __str__


def summary(node: Any) -> Summary:
    """Return a table of the Variables below ``node``.

    Args:
        node: a Node, or a list or dict of Nodes and Variables.

    Returns:
        path, kind, shape, dtype, device or sharding and bytes of each array, and
        totals; printing it draws the table.

    Raises:
        TypeError: ``node`` is nothing that could own a Variable.

    Example:
        >>> import brainopt as bo
        >>> print(bo.summary({"W": bo.TrainVar((2, 3))}))
        path  kind      shape   dtype    device  bytes
        ──────────────────────────────────────────────
        W     TrainVar  (2, 3)  float32  cpu:0      24
        ──────────────────────────────────────────────
        TrainVar: 6 elements, 24 bytes
        total: 6 elements, 24 bytes
    """
    variables = _walk.collect_vars(node)
    if not variables and not _walk.may_own(node):
        raise TypeError(
            message(
                f"A {type(node).__name__} has no Variables to list.",
                help="give a Node, or a list or dict of Nodes and Variables.",
            )
        )
    aliases: dict[Any, list[str]] = {}
    for path, variable in variables.items():
        aliases.setdefault(variable, []).append(path)
    values = runtime.snapshot(list(aliases))
    rows = []
    for (variable, paths), value in zip(aliases.items(), values, strict=True):
        for tail, leaf in entries(value):
            rows.append(
                Row(
                    path=_walk.join(paths[0], tail),
                    kind=type(variable).__name__,
                    shape=leaf.shape,
                    dtype=str(leaf.dtype),
                    place=place(leaf),
                    nbytes=leaf.size * leaf.dtype.itemsize,
                    aliases=tuple(_walk.join(path, tail) for path in paths[1:]),
                )
            )
    return Summary(tuple(rows))


def _size(row: Row) -> int:
    return math.prod(row.shape)


def _total(name: str, rows: Sequence[Row]) -> str:
    size, nbytes = sum(map(_size, rows)), sum(row.nbytes for row in rows)
    text = f"{name}: {size:,} element{'s' * (size != 1)}, {nbytes:,} bytes"
    unit = min(int(math.log2(nbytes or 1)) // 10, len(_UNITS) - 1)
    return f"{text} ({nbytes / 1024**unit:.1f} {_UNITS[unit]})" if unit else text


def _path(row: Row) -> str:
    return " = ".join((row.path, *row.aliases))


def _line(cells: Any, widths: list[int]) -> str:
    *left, last = (c.ljust(w) for c, w in zip(cells, widths, strict=True))
    return "  ".join([*left, last.strip().rjust(widths[-1])])
