# SPDX-License-Identifier: Apache-2.0
"""A bar on stderr that shows how far a compiled loop is."""

from __future__ import annotations

import sys
import time
from typing import Any

_SHOWN = 20  # times a bar is drawn; each costs a callback from the device
_WIDTH = 30


class Progress:
    """How far a loop is.

    Args:
        total: its iterations.

    Attributes:
        interval: iterations between two drawings.
    """

    def __init__(self, total: int):
        self.total = total
        self.interval = max(1, -(-total // _SHOWN))
        self._started = time.monotonic()
        self._drawn = 0

    def show(self, done: Any) -> None:
        """Draw the bar at ``done`` iterations."""
        done = int(done)
        if done == min(self.interval, self.total):
            self._started, self._drawn = time.monotonic(), 0
        if done <= self._drawn:
            return  # a device may call back out of order
        self._drawn = done
        filled = _WIDTH * done // max(1, self.total)
        seconds = time.monotonic() - self._started
        bar = "#" * filled + "." * (_WIDTH - filled)
        end = "\n" if done >= self.total else ""
        sys.stderr.write(f"\r[{bar}] {done}/{self.total} {seconds:.1f} s{end}")
        sys.stderr.flush()
