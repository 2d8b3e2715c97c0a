# SPDX-License-Identifier: Apache-2.0
"""The steps in a folder and their metrics, which the files themselves prove.

The names of the files say which steps there are. The index spares a reader from
opening each of them for its metrics; an entry counts only while its file has the size
and time it had, and whatever the index lacks is read from the file.
"""

import json
import math
import os
import re
from typing import Any

from ..errors import CheckpointError
from .io import _os
from .io._read import Reader
from .io._write import replace_file, write_all

_NAME = re.compile(r"step-(0|[1-9][0-9]{0,18})\.bopt")
_MAX_BYTES = 1 << 24


class Index:
    """The checkpoints of one folder.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._path = os.path.join(folder, "index.json")

    def path(self, step: int) -> str:
        """The file of a step."""
        return os.path.join(self.folder, f"step-{step}.bopt")

    def steps(self) -> list[int]:
        """The steps in the folder, in the order of their numbers."""
        try:
            names = _os.fs.listdir(self.folder)
        except FileNotFoundError:
            return []
        found = (_NAME.fullmatch(name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def metrics(self) -> dict[int, dict[str, float]]:
        """The metrics of each step; none for a file that cannot be read."""
        known = self._load()
        found: dict[int, dict[str, float]] = {}
        for step in self.steps():
            entry = known.get(str(step))
            if isinstance(entry, dict) and entry.get("file") == self._stamp(step):
                found[step] = _numbers(entry.get("metrics"))
            else:
                found[step] = self._from_file(step)
        return found

    def write(self, steps: list[int]) -> None:
        """Replace the index by one of these steps."""
        metrics = self.metrics()
        table = {
            str(step): {"file": self._stamp(step), "metrics": metrics[step]}
            for step in steps
            if step in metrics
        }
        data = json.dumps({"version": 1, "steps": table}, indent=1).encode()
        replace_file(self._path, lambda fd: write_all(fd, data))

    def _from_file(self, step: int) -> dict[str, float]:
        try:
            with Reader(self.path(step)) as reader:
                return _numbers(reader.metadata.get("metrics"))
        except CheckpointError:
            return {}

    def _stamp(self, step: int) -> list[int]:
        try:
            found = _os.fs.stat(self.path(step))
        except OSError:
            return []
        return [found.st_size, found.st_mtime_ns]

    def _load(self) -> dict[str, Any]:
        try:
            fd = _os.fs.open_read(self._path)
        except OSError:
            return {}
        try:
            data = bytearray(min(_os.fs.fstat(fd).st_size, _MAX_BYTES))
            view = memoryview(data)
            done = _os.fs.read_at(fd, [view], 0) if data else 0
            table = json.loads(data[:done])["steps"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        finally:
            _os.fs.close(fd)
        return table if isinstance(table, dict) else {}


def _numbers(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }


def best_of(metrics: dict[int, dict[str, float]], name: str, order: str) -> int | None:
    """The step with the largest or smallest metric; of equal ones the latest."""
    sign = 1 if order == "max" else -1
    known = {
        step: sign * values[name]
        for step, values in metrics.items()
        if not math.isnan(values.get(name, math.nan))
    }
    return max(known, key=lambda step: (known[step], step), default=None)
