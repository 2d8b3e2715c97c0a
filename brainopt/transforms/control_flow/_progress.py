# SPDX-License-Identifier: Apache-2.0
"""A bar on stderr that shows how far a compiled loop is."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from typing import Any

from ..._compat import progress_bars
from ..._typing import Array

_SHOWN = 20  # times a bar is drawn; each costs a callback from the device
_WIDTH = 30
_PATIENCE = 2.0  # seconds of silence before it is said that something compiles


class Progress:
    """Progress bar of a loop in a terminal or a notebook; silent anywhere else.

    Where tqdm is installed the bar is its own.

    A compilation of seconds is announced.

    Args:
        total: its iterations.
        name: that of the function in the loop.
        interval: iterations between two drawings; None for twenty of them.

    Attributes:
        interval: iterations between two drawings.
    """

    def __init__(self, total: int, name: str, interval: int | None = None):
        self.total = total
        self.interval = max(1, min(interval or -(-total // _SHOWN), total))
        self._tqdm = progress_bars()
        self._bar: Any = None
        self._started = time.monotonic()
        self._drawn = 0
        _announce(self, name)

    def show(self, done: Array | int) -> None:
        """Draw the bar at ``done`` iterations."""
        done = int(done)
        _silence()
        if done == min(self.interval, self.total):
            self._started, self._drawn, self._bar = time.monotonic(), 0, None
        if done <= self._drawn:
            return  # a device may call back out of order
        more, self._drawn = done - self._drawn, done
        if self._tqdm is None:
            self._draw(done)
            return
        if self._bar is None:
            # With None it is silent where stderr is no terminal.
            self._bar = self._tqdm.tqdm(total=self.total, disable=None)
        self._bar.update(more)
        if done >= self.total:
            self._bar.close()

    def _draw(self, done: int) -> None:
        if not sys.stderr.isatty():
            return
        filled = _WIDTH * done // max(1, self.total)
        bar = "#" * filled + "." * (_WIDTH - filled)
        seconds = time.monotonic() - self._started
        left = seconds / done * (self.total - done)
        more = f", {left:.0f} s left" if done < self.total else "\n"
        sys.stderr.write(f"\r[{bar}] {done}/{self.total} {seconds:.1f} s{more}\x1b[K")
        sys.stderr.flush()


_pending: list[threading.Timer] = []


def _announce(progress: Progress, name: str) -> None:
    """Say in a while that a loop compiles, unless it has begun or failed by then."""
    _silence()
    alive = weakref.ref(progress)

    def say():
        if alive() is not None and _is_seen():
            sys.stderr.write(f"compiling `{name}` …\n")
            sys.stderr.flush()

    timer = threading.Timer(_PATIENCE, say)
    timer.daemon = True
    timer.start()
    _pending.append(timer)


def _silence() -> None:
    while _pending:
        _pending.pop().cancel()


def _is_seen() -> bool:
    notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return notebook or sys.stderr.isatty()
