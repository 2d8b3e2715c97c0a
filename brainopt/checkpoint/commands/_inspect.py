# SPDX-License-Identifier: Apache-2.0
"""``brainopt inspect``: what is in a file, as a folded tree with subtotals."""

import argparse
import dataclasses
import importlib
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..._select import Choice
from ...errors import CheckpointError, PathError, message, printable
from .._index import Index
from ..format._dtypes import in_own_order
from ..io._folder import Folder
from ..io._sharded import is_whole, open_checkpoint
from ..tools._inspect import MANY, Entry, Inspection, content_of, inspect_file
from ._output import saved_at, say, say_json, styled, table

_STATS = ("min", "max", "mean", "norm", "nan", "inf")
_FLAT = (".npz", ".safetensors")


def run(chosen: argparse.Namespace) -> int:
    """Print what is in a file, or in the newest step of a folder."""
    path = newest(chosen.file)
    told = _inspected(path)
    entries = told.entries
    if chosen.match is not None:
        fits = Choice(chosen.match)
        entries = [entry for entry in entries if fits(entry.path, entry)]
        if not entries and not chosen.json:
            say(f"{printable(path)} has nothing of {printable(chosen.match)}.")
            return 1
    stats = _stats(path, entries) if chosen.stats else {}
    if chosen.json:
        data = dataclasses.asdict(dataclasses.replace(told, entries=entries))
        for entry in data["entries"]:
            entry |= stats.get(entry["path"], {})
        say_json(data)
        return 1 if chosen.match is not None and not entries else 0
    say(*_head(told, path))
    depth = 64 if chosen.all else chosen.depth
    say(*_tree(entries, stats, depth, chosen.stats, chosen.all))
    return 0


def newest(path: str) -> str:
    """Return a file as it is, and the newest step of a folder.

    Raises:
        CheckpointError: the folder has no steps.
    """
    if is_whole(path):
        return path
    index = Index(Folder(path))
    if not (steps := index.steps()):
        raise CheckpointError(
            message(f"{path} is a folder without steps.", help="name a file in it.")
        )
    return index.path(steps[-1])


def _inspected(path: str) -> Inspection:
    if not path.lower().endswith(_FLAT):
        return inspect_file(path)
    return importlib.import_module("brainopt.checkpoint").inspect(path)


def _head(told: Inspection, path: str) -> list[str]:
    when = f", saved {saved}" if (saved := saved_at(path)) else ""
    head = f"{told.path}: format {told.version}, {told.library}"
    lines = [printable(f"{head}, {told.nbytes:,} bytes{when}")]
    for node, meta in told.nodes.items():
        text = ", ".join(f"{key}={value!r}" for key, value in _flat(meta))
        lines += textwrap.wrap(
            printable(f"{node or '.'}: {text}"),
            88,
            initial_indent="  ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    return lines


def _flat(meta: dict[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in meta.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        elif value not in ({}, [], ()):
            yield f"{above}{key}", value


class _Branch:
    """The entries below one path."""

    def __init__(self) -> None:
        self.branches: dict[str, _Branch] = {}
        self.entries: list[Entry] = []
        self.count = self.nbytes = 0


def _grown(entries: list[Entry]) -> _Branch:
    # Each branch on the way down counts the entry, so that a folded one has its total.
    root = _Branch()
    for entry in entries:
        branch = root
        for part in [*entry.path.split(".")[:-1], ""]:
            branch.count += 1
            branch.nbytes += entry.nbytes
            if part:
                branch = branch.branches.setdefault(part, _Branch())
        branch.entries.append(entry)
    return root


def _tree(
    entries: list[Entry], stats: dict[str, Any], depth: int, wide: bool, unfold: bool
) -> list[str]:
    rows: list[list[str]] = []
    more = len(_STATS) if wide else 0

    def fold(name: str, branch: _Branch, level: int, what: str) -> None:
        cells = ["  " * level + name, "", what, f"{branch.nbytes:,}"]
        rows.append([*cells, *[""] * more])

    def walk(branch: _Branch, path: str, level: int) -> None:
        hidden = {} if unfold else _history(branch)
        for entry in branch.entries:
            if id(entry) not in hidden:
                rows.append(_row(entry, level, stats, wide))
        if hidden:
            plain = f"{sum(hidden.values())} plain values"
            rows.append(["  " * level + "…", "", plain, "0", *[""] * more])
        for name, child in branch.branches.items():
            if id(child) in hidden:
                continue
            below = f"{path}.{name}" if path else name
            folded = level + 1 >= depth
            fold(below, child, level, f"{child.count} values" if folded else "")
            if not folded:
                walk(child, below, level + 1)

    root = _grown(entries)
    walk(root, "", 0)
    total = ["total", "", f"{root.count} values", f"{root.nbytes:,}"]
    rows.append([*total, *[""] * more])
    head = ["path", "kind", "what", "bytes", *(_STATS if wide else ())]
    lines = table(head, rows, 3)
    return [
        styled(line, "red") if wide and _has_bad(row) else line
        for line, row in zip(lines, [head, *rows], strict=True)
    ]


def _history(branch: _Branch) -> dict[int, int]:
    """Return what is folded, by id: the plain values in each, where they are many.

    A history of a thousand numbers, or of a dict for each epoch, would bury the arrays.
    """
    plain = {id(entry): 1 for entry in branch.entries if not entry.nbytes}
    below = branch.branches.values()
    plain |= {id(child): child.count for child in below if not child.nbytes}
    return plain if len(plain) > MANY else {}


def _has_bad(row: list[str]) -> bool:
    return any(cell not in ("", "0", "nan", "inf") for cell in row[-2:])


def _row(entry: Entry, level: int, stats: dict[str, Any], wide: bool) -> list[str]:
    name = "  " * level + entry.path
    cells = [name, entry.kind, content_of(entry), f"{entry.nbytes:,}"]
    if wide:
        numbers = stats.get(entry.path, {})
        cells += [f"{numbers[k]:.6g}" if k in numbers else "" for k in _STATS]
    return cells


def _stats(path: str, entries: list[Entry]) -> dict[str, dict[str, float]]:
    # Statistics are listed by path; a dotted key may spell the path of another array.
    wanted = [entry.path for entry in entries if entry.kind == "array"]
    if twice := sorted({name for name in wanted if wanted.count(name) > 1}):
        raise PathError(message("Two values have one dotted path:", twice))
    values = _arrays(path, set(wanted))
    return {name: _numbers(value) for name, value in values.items() if value.size}


def _arrays(path: str, wanted: set[str]) -> dict[str, np.ndarray]:
    if path.lower().endswith(_FLAT):
        flat = importlib.import_module("brainopt.checkpoint").load(path)
        return {name: value for name, value in flat.items() if name in wanted}
    with open_checkpoint(path) as reader:
        places = {
            index: name
            for index, (name, meta, record) in enumerate(reader.named())
            if record.kind == "array" and not meta and name in wanted
        }
        return {
            places[index]: in_own_order(array, reader.records[index].dtype)
            for index, array in reader.read(places).items()
        }


def _numbers(value: np.ndarray) -> dict[str, float]:
    # In float64 and over finite numbers alone: one NaN would hide everything else, and
    # is counted beside.
    wide = np.abs(value) if "complex" in value.dtype.name else value
    wide = wide.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    nans = int(np.isnan(wide).sum())
    nothing = float("nan")
    return {
        "min": float(finite.min()) if finite.size else nothing,
        "max": float(finite.max()) if finite.size else nothing,
        "mean": float(finite.mean()) if finite.size else nothing,
        "norm": float(np.linalg.norm(finite)),
        "nan": nans,
        "inf": wide.size - finite.size - nans,
    }
