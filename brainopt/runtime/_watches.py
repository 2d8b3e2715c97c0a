# SPDX-License-Identifier: Apache-2.0
"""Watches: what is looked at now and then between the runs of a compiled function.

A compiled function runs no Python, so it cannot warn. An object that it changes may ask
to be looked at afterwards. Each look waits for the device, so there are few: after the
first run, which has waited for the compiler, and then ever more rarely.
"""

from __future__ import annotations

import bisect
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Watch: TypeAlias = tuple[weakref.ref, Callable[[Any], None]]
"""An object, and the function that looks at it."""

_EARLY = (1, 16, 64, 256, 1024)
_OFTEN = 4096


def next_look(runs: int) -> int:
    """Return after how many runs to look next, where so many are done."""
    place = bisect.bisect(_EARLY, runs)
    return _EARLY[place] if place < len(_EARLY) else (runs // _OFTEN + 1) * _OFTEN


class Watches:
    """The watches of one compiled function, and the count of its runs.

    Attributes:
        found: the watches; empty for a function that nobody looks after.
        runs: the number of its runs.
        due: the number of runs from which on it is time to look.
    """

    __slots__ = ("due", "found", "runs")

    def __init__(self):
        self.found: dict[Watch, None] = {}
        self.runs = 0
        self.due = sys.maxsize

    def add(self, watches: Iterable[Watch]) -> None:
        """Add those of a trace."""
        self.found.update(dict.fromkeys(watches))
        if self.found and self.due == sys.maxsize:
            self.due = self.runs + 1

    def count_run(self) -> None:
        """Count a run, and look where it is time."""
        self.runs += 1
        if self.runs >= self.due:
            self.look()

    def look(self) -> None:
        """Look now."""
        self.due = next_look(self.runs)
        for owner, look in tuple(self.found):
            if (watched := owner()) is not None:
                look(watched)
