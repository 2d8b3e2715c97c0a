# SPDX-License-Identifier: Apache-2.0
"""The output of commands: lines, tables, JSON, progress, for terminals and pipes."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import printable
from ..io import _os

_JSON = bool | int | float | str | None
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
_PATIENCE = 1.0  # seconds before progress is shown
_INTERVAL = 0.1  # seconds between two such lines


def say(*lines: Any) -> None:
    """Print lines; a reader of the output that has seen enough changes no exit code."""
    try:
        for line in lines:
            print(line)
        if sys.stdout is not None:
            sys.stdout.flush()
    # As in ``brainopt list … | head``. Without the None, Python would flush once more
    # when it ends, fail again, and print a trace.
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]


def say_json(value: object) -> None:
    """Print data as strict JSON."""
    say(json.dumps(as_json(value), indent=1, allow_nan=False))


def as_json(value: object) -> Any:
    """Convert data to strict JSON; values that JSON lacks become texts."""
    if isinstance(value, dict):
        return {str(key): as_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(child) for child in value]
    tolist = getattr(value, "tolist", None)
    if tolist is not None:
        return as_json(tolist())
    # Readers of JSON turn longer ints into floats, and lose digits without a word.
    if isinstance(value, int) and value.bit_length() > 64:
        return hex(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, _JSON) else repr(value)


def saved_at(path: str) -> str:
    """Return when a file of this machine was written; "" for others."""
    try:
        found = _os.fs.stat(path)
    except OSError:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.st_mtime))


def styled(text: str, style: str) -> str:
    """Colour a text on a terminal, unless NO_COLOR is set."""
    wanted = sys.stdout is not None and sys.stdout.isatty()
    if not wanted or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Lay out rows in columns.

    Args:
        head: the names of the columns.
        rows: their cells.
        left: how many of the columns, from the first, are aligned to the left.
    """
    cells = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return [styled(line(head), "bold"), *map(line, cells)]


class Progress:
    """A line on a terminal with the share of a long task that is done."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = printable(name), total, 0
        self._start = self._last = time.monotonic()
        self._shown, self._lock = False, threading.Lock()

    def add(self, amount: int) -> None:
        """Add to the count, and show it now and then; threads may call it."""
        with self._lock:
            self._done += amount
            now = time.monotonic()
            due = now - self._start > _PATIENCE and now - self._last > _INTERVAL
            if due and sys.stderr.isatty():
                self._last, self._shown = now, True
                share = min(100 * self._done // max(self._total, 1), 100)
                text = f"\r{self._name}: {share} %"
                print(text, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
