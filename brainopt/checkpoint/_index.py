# SPDX-License-Identifier: Apache-2.0
"""The steps in a folder and their metrics, which the files themselves prove.

The names of the files say which steps there are. The index spares a reader from
opening each of them for its metrics; an entry counts only while its file has the size
and time it had, and whatever the index lacks is read from the file.
"""

import contextlib
import json
import math
import re
from typing import Any

from ..errors import CheckpointError
from .io._folder import Folder
from .io._input import opened
from .io._read import Reader
from .io._write import replace_file, write_all

_NAME = re.compile(r"step-(0|[1-9][0-9]{0,18})\.bopt")
_INDEX = "index.json"
_MAX_STEP = 1 << 63
_MAX_BYTES = 1 << 24


class Index:
    """The checkpoints of one folder.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def path(self, step: int) -> str:
        """The file of a step."""
        return self.folder.file(_file(step))

    def steps(self) -> list[int]:
        """The steps in the folder, in the order of their numbers."""
        found = (_NAME.fullmatch(name) for name in self.folder.names())
        numbers = (int(match[1]) for match in found if match)
        return sorted(number for number in numbers if number < _MAX_STEP)

    def metrics(self, steps: list[int] | None = None) -> dict[int, dict[str, float]]:
        """The metrics of each step; none for a file that cannot be read."""
        known = self._load()
        found: dict[int, dict[str, float]] = {}
        for step in self.steps() if steps is None else steps:
            entry = known.get(str(step))
            stamp = self.folder.stamp(_file(step))
            if isinstance(entry, dict) and entry.get("file") == stamp:
                found[step] = _numbers(entry.get("metrics"))
            else:
                found[step] = self._from_file(step)
        return found

    def write(self, metrics: dict[int, dict[str, float]]) -> None:
        """Replace the index by one of these steps.

        The oldest are left out where it would be longer than a reader takes; their
        files tell their metrics all the same.
        """
        entries, size = [], 100
        for step in sorted(metrics, reverse=True):
            stamp = self.folder.stamp(_file(step))
            numbers = {name: _as_json(v) for name, v in metrics[step].items()}
            entry = json.dumps({"file": stamp, "metrics": numbers})
            size += len(entry) + 32
            if size > _MAX_BYTES:
                break
            entries.append(f'  "{step}": {entry}')
        body = ",\n".join(reversed(entries))
        data = f'{{"version": 1, "steps": {{\n{body}\n}}}}\n'.encode()
        replace_file(self.folder.file(_INDEX), lambda fd: write_all(fd, data))

    def remove(self, step: int) -> None:
        """Remove the file of a step."""
        self.folder.remove(_file(step))

    def _from_file(self, step: int) -> dict[str, float]:
        try:
            with Reader(self.path(step)) as reader:
                return _numbers(reader.metadata.get("metrics"))
        except CheckpointError:
            return {}

    def _load(self) -> dict[str, Any]:
        try:
            with opened(self.folder.file(_INDEX)) as file:
                data = bytearray(min(file.size, _MAX_BYTES))
                done = file.read_at([memoryview(data)], 0) if data else 0
            table = json.loads(data[:done])["steps"]
        except (CheckpointError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return table if isinstance(table, dict) else {}


def _file(step: int) -> str:
    return f"step-{step}.bopt"


def _as_json(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)  # JSON has no NaN


def _numbers(metrics: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items() if isinstance(metrics, dict) else ():
        if isinstance(value, int | float) or value in ("nan", "inf", "-inf"):
            with contextlib.suppress(OverflowError):  # an int that a forger wrote
                found[str(name)] = float(value)
    return found


def best_of(metrics: dict[int, dict[str, float]], name: str, order: str) -> int | None:
    """The step with the largest or smallest metric; of equal ones the latest."""
    sign = 1 if order == "max" else -1
    known = {
        step: sign * values[name]
        for step, values in metrics.items()
        if not math.isnan(values.get(name, math.nan))
    }
    return max(known, key=lambda step: (known[step], step), default=None)
