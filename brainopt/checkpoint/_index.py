# SPDX-License-Identifier: Apache-2.0
"""The steps in a folder and their metrics; the files themselves are the truth.

The names of the files list the steps. The index spares a reader from
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
from .io._parts import MANIFEST, PartsFolder, has_manifest
from .io._sharded import open_checkpoint
from .io._write import replace_file, write_all

_NAME = re.compile(r"step-(0|[1-9][0-9]{0,18})(\.bopt)?")
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
        """The file or folder of a step."""
        folder = self.step_folder(step)
        return folder if self._has_folder(_folder(step)) else self.file(step)

    def file(self, step: int) -> str:
        """The file of a step."""
        return self.folder.file(_file(step))

    def step_folder(self, step: int) -> str:
        """The folder of a step that is saved in shards."""
        return self.folder.file(_folder(step))

    def _has_folder(self, name: str) -> bool:
        return not self.folder.remote and has_manifest(self.folder.file(name))

    def steps(self) -> list[int]:
        """The complete steps in the folder, in the order of their numbers."""
        found = [m for m in map(_NAME.fullmatch, self.folder.names()) if m]
        whole = (m for m in found if m[2] or self._has_folder(m[0]))
        numbers = {int(match[1]) for match in whole}
        return sorted(number for number in numbers if number < _MAX_STEP)

    def metrics(self, steps: list[int] | None = None) -> dict[int, dict[str, float]]:
        """The metrics of each step; none for a file that cannot be read."""
        known = self._load()
        found: dict[int, dict[str, float]] = {}
        for step in self.steps() if steps is None else steps:
            # The index may be that of before a crash, or of another writer: an entry
            # counts only for the very file that it was made from.
            entry = known.get(str(step))
            stamp = self._stamp(step)
            if isinstance(entry, dict) and entry.get("file") == stamp:
                found[step] = _numbers(entry.get("metrics"))
            else:
                found[step] = self._from_file(step)
        return found

    def write(self, metrics: dict[int, dict[str, float]]) -> None:
        """Replace the index by one of these steps.

        The oldest are left out where it would be longer than a reader takes; their
        metrics are read from their files.
        """
        # From the newest, so that it is the oldest which a full index lacks.
        entries, size = [], 100
        for step in sorted(metrics, reverse=True):
            stamp = self._stamp(step)
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
        """Remove a step."""
        self.remove_file(step)
        self.remove_folder(step)

    def remove_file(self, step: int) -> None:
        """Remove the file of a step; its folder stays."""
        self.folder.remove(_file(step))

    def remove_folder(self, step: int) -> None:
        """Remove the folder of a step; its file stays."""
        if self._has_folder(_folder(step)):
            PartsFolder(self.step_folder(step)).remove()

    def sweep(self) -> None:
        """Remove the folders of saves that did not end; none may be under way."""
        for match in map(_NAME.fullmatch, self.folder.names()):
            if (
                not self.folder.remote
                and match
                and not (match[2] or self._has_folder(match[0]))
            ):
                PartsFolder(self.folder.file(match[0])).remove()

    def _stamp(self, step: int) -> list[Any]:
        if self._has_folder(_folder(step)):
            return self.folder.stamp(f"{_folder(step)}/{MANIFEST}")
        return self.folder.stamp(_file(step))

    def _from_file(self, step: int) -> dict[str, float]:
        try:
            with open_checkpoint(self.path(step)) as reader:
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


def _folder(step: int) -> str:
    return f"step-{step}"


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
    # NaN compares as False with everything, so that any step might win with it.
    known = {
        step: sign * values[name]
        for step, values in metrics.items()
        if not math.isnan(values.get(name, math.nan))
    }
    return max(known, key=lambda step: (known[step], step), default=None)
