# SPDX-License-Identifier: Apache-2.0
"""Watches: what is looked at now and then between the runs of a compiled function.

A compiled function runs no Python, so it cannot warn. An object that it changes may ask
to be looked at afterwards. Each look waits for the device, so there are few: after the
first run, which has waited for the compiler, and then ever more rarely.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Watch: TypeAlias = tuple[weakref.ref, Callable[[Any], None]]
"""An object, and the function that looks at it."""

_EARLY = frozenset({1, 16, 64, 256})
_OFTEN = 1024


def is_due(count: int) -> bool:
    """Whether to look after so many runs."""
    return count in _EARLY or not count % _OFTEN


class Watches:
    """The watches of one compiled function, and the count of its runs.

    Attributes:
        found: the watches; empty for a function that nobody looks after.
    """

    __slots__ = ("_runs", "found")

    def __init__(self):
        self.found: dict[Watch, None] = {}
        self._runs = 0

    def add(self, watches: Iterable[Watch]) -> None:
        """Add those of a trace."""
        self.found.update(dict.fromkeys(watches))

    def count_run(self) -> None:
        """Count a run, and look where it is time."""
        self._runs += 1
        if is_due(self._runs):
            for owner, look in tuple(self.found):
                if (watched := owner()) is not None:
                    look(watched)
