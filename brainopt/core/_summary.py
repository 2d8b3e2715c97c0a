# SPDX-License-Identifier: Apache-2.0
"""A table of what a node owns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from .. import runtime
from .._compat import is_key_array
from .._display import size_text, table_html, table_text
from .._typing import Model
from ..errors import message
from . import _walk
from ._constants import constants
from ._paths import entries
from ._value import place
from ._variable import Variable

_STATS = ("min", "max", "mean", "not finite")


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of a summary, or the arrays of one node together.

    Attributes:
        path: of the array, or of the node.
        kind: the class of the Variable, or of the node.
        shape: of the array; of a node ``()``.
        dtype: of the array; of a node "".
        place: the device or sharding; of a node "".
        nbytes: bytes of the elements.
        aliases: the other paths of the Variable.
        size: how many elements there are.
        count: how many arrays there are.
        stats: with ``stats=True`` the smallest, largest and mean number of those that
            are finite, and how many are not; else None.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    place: str
    nbytes: int
    aliases: tuple[str, ...] = ()
    size: int = 0
    count: int = 1
    stats: tuple[float, float, float, int] | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """Table of the arrays below a node, drawn by `print` and by notebooks.

    Attributes:
        rows: one for each array, in order of the paths.
        groups: with ``depth=`` one for each node of that depth; else the same.
        constants: one for each array that is no Variable, of the kind "constant".
            They are in no total, since no state dict has them.
    """

    rows: tuple[Row, ...]
    groups: tuple[Row, ...] = ()
    constants: tuple[Row, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(row.nbytes for row in self.rows)

    @property
    def size(self) -> int:
        """Elements of all arrays together."""
        return sum(row.size for row in self.rows)

    def __str__(self) -> str:
        lines = table_text(*self._table())
        return "\n".join([*lines, lines[1], *self._totals()])

    def _repr_html_(self) -> str:
        return table_html(*self._table(), below=self._totals())

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        if self.groups:
            head, shown = ("path", "class", "arrays", "elements", "bytes"), self.groups
            body = [
                (r.path, r.kind, f"{r.count}", f"{r.size:,}", f"{r.nbytes:,}")
                for r in shown
            ]
        else:
            head, shown = _HEAD, (*self.rows, *self.constants)
            body = [
                (_path(r), r.kind, str(r.shape), r.dtype, r.place, f"{r.nbytes:,}")
                for r in shown
            ]
        if any(row.stats for row in shown):
            head = (*head, *_STATS)
            body = [
                (*cells, *_stats_text(row))
                for cells, row in zip(body, shown, strict=True)
            ]
        return head, body

    def _totals(self) -> list[str]:
        kinds = sorted({row.kind for row in self.rows})
        totals = [_total(k, [r for r in self.rows if r.kind == k]) for k in kinds]
        fixed = [_total("constants", self.constants)] if self.constants else []
        return [*totals, _total("total", self.rows), *fixed]

    __repr__ = __str__


_HEAD = ("path", "kind", "shape", "dtype", "device", "bytes")


def summary(node: Model, *, depth: int | None = None, stats: bool = False) -> Summary:
    """Return a table of the Variables below ``node``, and of its other arrays.

    Args:
        node: a Node, or a list or dict of Nodes and Variables.
        depth: show one row for each node, with subtotals: the arrays whose paths
            agree in their first so many parts; default: a row for each array.
        stats: show the smallest, largest and mean number, and how many numbers are
            NaN or infinite; this waits for the arrays and reads them.

    Returns:
        path, kind, shape, dtype, device or sharding and bytes of each array, and
        totals; printing it draws the table, and a notebook shows it as one.

    Raises:
        TypeError: ``node`` is nothing that could own a Variable.
        ValueError: ``depth`` is below 1.

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
    if depth is not None and depth < 1:
        raise ValueError(message(f"depth={depth}.", help="give 1 or more."))
    variables = _walk.collect_vars(node)
    if not variables and not _walk.may_own(node):
        raise TypeError(
            message(
                f"A {type(node).__name__} has no Variables to list.",
                help="give a Node, or a list or dict of Nodes and Variables.",
            )
        )
    rows = tuple(_rows(variables, stats))
    fixed = tuple(
        _row(path, "constant", value, (), stats)
        for path, value in constants(node).items()
    )
    groups = () if depth is None else _groups(node, rows, depth)
    return Summary(rows, groups, fixed)


def _rows(variables: Mapping[str, Variable], stats: bool) -> Iterator[Row]:
    # A shared Variable counts once; its further paths are shown beside the first.
    aliases: dict[Any, list[str]] = {}
    for path, variable in variables.items():
        aliases.setdefault(variable, []).append(path)
    values = runtime.snapshot(list(aliases))
    for (variable, paths), value in zip(aliases.items(), values, strict=True):
        for tail, leaf in entries(value):
            path, *others = (_walk.join(path, tail) for path in paths)
            yield _row(path, type(variable).__name__, leaf, tuple(others), stats)


def _row(path: str, kind: str, leaf: Any, aliases: tuple, stats: bool) -> Row:
    return Row(
        path=path,
        kind=kind,
        shape=leaf.shape,
        dtype=str(leaf.dtype),
        place=place(leaf),
        nbytes=leaf.size * leaf.dtype.itemsize,
        aliases=aliases,
        size=math.prod(leaf.shape),
        stats=_stats(leaf) if stats else None,
    )


def _groups(node: Any, rows: Sequence[Row], depth: int) -> tuple[Row, ...]:
    classes = {p: type(n).__name__ for p, n in _walk.collect_nodes(node).items()}
    inside: dict[str, list[Row]] = {}
    for row in rows:
        inside.setdefault(".".join(row.path.split(".")[:depth]), []).append(row)
    return tuple(
        Row(
            path=path,
            kind=classes.get(path, own[0].kind if own[0].path == path else ""),
            shape=(),
            dtype="",
            place="",
            nbytes=sum(row.nbytes for row in own),
            size=sum(row.size for row in own),
            count=len(own),
            stats=_joined(own),
        )
        for path, own in inside.items()
    )


def _stats(leaf: Any) -> tuple[float, float, float, int] | None:
    if is_key_array(leaf) or not leaf.size:
        return None
    real = jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf
    # In float32 at least: the sum of a mean overflows in float16 at 65,504.
    wide = real.astype(jnp.promote_types(real.dtype, jnp.float32))
    is_finite = jnp.isfinite(wide)
    bad = leaf.size - int(is_finite.sum())
    if bad == leaf.size:
        return (math.nan, math.nan, math.nan, bad)
    return (
        float(wide.min(where=is_finite, initial=jnp.inf)),
        float(wide.max(where=is_finite, initial=-jnp.inf)),
        float(wide.mean(where=is_finite)),
        bad,
    )


def _joined(rows: Sequence[Row]) -> tuple[float, float, float, int] | None:
    known = [(row.size - row.stats[3], row.stats) for row in rows if row.stats]
    if not known:
        return None
    bad, finite = sum(s[3] for _, s in known), [(n, s) for n, s in known if n]
    if not finite:
        return (math.nan, math.nan, math.nan, bad)
    # Each mean weighs as many numbers as were finite in its array.
    mean = sum(n * s[2] for n, s in finite) / sum(n for n, _ in finite)
    return min(s[0] for _, s in finite), max(s[1] for _, s in finite), mean, bad


def _stats_text(row: Row) -> tuple[str, ...]:
    if row.stats is None:
        return ("",) * len(_STATS)
    *numbers, bad = row.stats
    return (*(f"{number:.4g}" for number in numbers), f"{bad:,}")


def _total(name: str, rows: Sequence[Row]) -> str:
    size, nbytes = sum(r.size for r in rows), sum(row.nbytes for row in rows)
    text = f"{name}: {size:,} element{'s' * (size != 1)}, {nbytes:,} bytes"
    return text if nbytes < 1024 else f"{text} ({size_text(nbytes)})"


def _path(row: Row) -> str:
    return " = ".join((row.path, *row.aliases))
