# SPDX-License-Identifier: Apache-2.0
"""Trees and tables, laid out as text for a terminal and as HTML for a notebook.

The HTML needs no script and no style from elsewhere.
"""

from __future__ import annotations

import html
import importlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import printable

_MOST_CHILDREN = 20
_MOST_LINES = 100
_OPEN = 2  # levels of a tree that a notebook shows unfolded
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?(e[-+]?\d+)?|nan|-?inf")
_CELL = "text-align:left;padding:0 1em 0 0;font-family:monospace;white-space:nowrap"


@dataclass(frozen=True)
class Branch:
    """One line of a tree, and the lines below it.

    Attributes:
        text: the line.
        children: the branches below.
    """

    text: str
    children: tuple[Branch, ...] = ()


def tree_text(tree: Branch) -> str:
    """Lay out a tree by indentation; what is deepest is folded where it is long."""
    # From the whole depth upwards: the first that fits shows most.
    for depth in itertools.count(_depth(tree), -1):
        lines = list(_lines(tree, depth))
        if len(lines) <= _MOST_LINES or depth == 1:
            return "\n".join(lines)
    raise AssertionError


def tree_html(tree: Branch) -> str:
    """Lay out a tree whose branches fold."""
    inside = "".join(_folds(tree, _OPEN))
    return f'<div style="font-family:monospace">{inside}</div>'


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table: the head, a rule, and a line for each row.

    A column whose cells are all numbers is set to the right.
    """
    # Escaped before the widths are measured, as escapes are longer.
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [_is_number_column(column[1:]) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]
    return [lines[0], "─" * max(map(len, lines)), *lines[1:]]


def table_html(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    above: Sequence[str] = (),
    below: Sequence[str] = (),
) -> str:
    """Lay out a table with lines of text above and below it."""

    def line(cells: Sequence[str], tag: str) -> str:
        inside = (
            f'<{tag} style="{_CELL}">{html.escape(cell)}</{tag}>' for cell in cells
        )
        return f"<tr>{''.join(inside)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    texts = ["".join(f"<div>{html.escape(t)}</div>" for t in s) for s in (above, below)]
    return (
        f"<div>{texts[0]}<table><thead>{line(head, 'th')}</thead>"
        f"<tbody>{body}</tbody></table>{texts[1]}</div>"
    )


def curve_html(title: str, ys: Sequence[float], last: str) -> str:
    """Draw numbers over their index as an SVG picture.

    Args:
        title: stands above the curve.
        ys: the numbers; what is not finite is left out.
        last: the name of the last index.
    """
    finite = [(i, y) for i, y in enumerate(ys) if abs(y) < float("inf")]
    low = min((y for _, y in finite), default=0.0)
    high = max((y for _, y in finite), default=0.0)
    # A constant curve has no span, and a single number no steps to divide by.
    span, steps = (high - low) or 1.0, max(1, len(ys) - 1)
    points = " ".join(
        f"{10 + 300 * i / steps:.1f},{10 + 80 * (high - y) / span:.1f}"
        for i, y in finite
    )
    text = 'font-size="10" font-family="monospace" fill="currentColor"'
    return (
        f"<div><code>{html.escape(title)}</code><br>"
        '<svg width="400" height="110" viewBox="0 0 400 110" role="img">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/>'
        f'<text x="316" y="16" {text}>{high:.3g}</text>'
        f'<text x="316" y="92" {text}>{low:.3g}</text>'
        f'<text x="10" y="106" {text}>0</text>'
        f'<text x="310" y="106" text-anchor="end" {text}>{html.escape(last)}</text>'
        "</svg></div>"
    )


def size_text(nbytes: int) -> str:
    """Return a number of bytes, as ``2.0 MiB`` from 1024 on."""
    if nbytes < 1024:
        return f"{nbytes} bytes"
    power = (nbytes.bit_length() - 1) // 10
    unit = ("KiB", "MiB", "GiB", "TiB", "PiB")[power - 1]
    return f"{nbytes / 1024**power:.1f} {unit}"


def _depth(tree: Branch) -> int:
    return 1 + max(map(_depth, tree.children), default=0)


def _count(tree: Branch) -> int:
    return 1 + sum(map(_count, tree.children))


def _lines(tree: Branch, depth: int, indent: str = "") -> Iterator[str]:
    folded = depth == 1 and tree.children
    more = f" … {_count(tree) - 1} lines below" if folded else ""
    yield f"{indent}{printable(tree.text)}{more}"
    if depth > 1:
        indent += "  "
        for child in tree.children[:_MOST_CHILDREN]:
            yield from _lines(child, depth - 1, indent)
        if len(tree.children) > _MOST_CHILDREN:
            yield f"{indent}… and {len(tree.children) - _MOST_CHILDREN} more"


def _folds(tree: Branch, is_open: int) -> Iterator[str]:
    text = html.escape(printable(tree.text))
    if not tree.children:
        yield f'<div style="margin-left:1.2em">{text}</div>'
        return
    shown = " open" if is_open > 0 else ""
    yield f'<details{shown} style="margin-left:1.2em"><summary>{text}</summary>'
    for child in tree.children:
        yield from _folds(child, is_open - 1)
    yield "</details>"


def _is_number_column(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(map(_NUMBER.fullmatch, filled))


def treescope_object(
    kind: type, contents: Mapping[str, object], path: str | None, render: Any
) -> Any:
    """Return what treescope shows of an object with attributes."""
    # Not an import of ours: treescope asks for this, so it is there.
    library = importlib.import_module("treescope.repr_lib")
    return library.render_object_constructor(
        kind, contents, path, render, roundtrippable=False
    )


def treescope_dict(
    kind: type, contents: Mapping[str, object], path: str | None, render: Any
) -> Any:
    """Return what treescope shows of a dict of a class of its own."""
    library = importlib.import_module("treescope.repr_lib")
    return library.render_dictionary_wrapper(kind, contents, path, render)
