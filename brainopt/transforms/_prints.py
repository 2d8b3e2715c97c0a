# SPDX-License-Identifier: Apache-2.0
"""Prints of functions that are traced more than once for one program.

**How it works.** A trace may only look for Variables, and is then given up; the next
one runs the same Python again, with the same prints. So `builtins.print` keeps the text
while a thread runs such a trace. The text is dropped with a trace that is given up, and
printed in all other cases: at the end of the trace, or before the error leaves.

**What must never happen.** A print that is lost with an error, or one of another thread
that is held: the texts belong to a stack of the thread. A text that is held for a block
which a signal has left open: outside of frames nothing is traced, so nothing is held.
"""

from __future__ import annotations

import builtins
import io
import threading
from typing import Any, TextIO

from ..runtime import top


class _Local(threading.local):
    def __init__(self):
        self.held: list[HeldPrints] = []


_local = _Local()
_lock = threading.Lock()
_blocks = 0
_print = builtins.print


class HeldPrints:
    """A block that keeps what is printed in it until it is known to be wanted.

    Args:
        given_up: the errors that say that the same prints come again.
    """

    def __init__(self, *given_up: type[BaseException]):
        self._given_up = given_up
        self._texts: list[tuple[str, TextIO | None]] = []
        self._is_open = True

    def __enter__(self) -> HeldPrints:
        _install(1)
        if top() is None:  # what is there was left by a signal
            _local.held.clear()
        _local.held.append(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        if self in _local.held:
            _local.held.remove(self)
        try:
            if not isinstance(error, self._given_up):
                self.release()
        finally:
            _install(-1)

    def add(self, text: str, file: TextIO | None) -> None:
        """Keep a text, or print it where the block waits for nothing any more."""
        self._texts.append((text, file))
        if not self._is_open:
            self.release()

    def drop(self) -> None:
        """Forget what was printed so far: it comes again."""
        self._texts.clear()

    def release(self) -> None:
        """Print what was kept, and from now on at once."""
        self._is_open = False
        held = [block for block in _local.held if block is not self]
        texts, self._texts = self._texts, []
        for text, file in texts:
            if held:
                held[-1].add(text, file)
            else:
                _print(text, end="", file=file, flush=True)


def release_prints() -> None:
    """Print what the innermost block has kept: its trace is complete."""
    if _local.held:
        _local.held[-1].release()


def _held_print(*values: object, file: TextIO | None = None, **options: Any) -> None:
    if not _local.held or top() is None:
        _print(*values, file=file, **options)
        return
    # The text of now: a list may change, and a tracer end with its trace.
    text = io.StringIO()
    options.pop("flush", None)
    _print(*values, file=text, **options)
    _local.held[-1].add(text.getvalue(), file)


def _install(change: int) -> None:
    """Put the print of this module in its place for the time of the blocks."""
    global _blocks, _print
    with _lock:
        _blocks += change
        if change > 0 and builtins.print is not _held_print:
            _print = builtins.print
            builtins.print = _held_print
        elif _blocks == 0 and builtins.print is _held_print:
            builtins.print = _print
