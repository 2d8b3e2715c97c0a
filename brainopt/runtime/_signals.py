# SPDX-License-Identifier: Apache-2.0
"""Signals that wait: no handler runs inside a block of code.

A handler of Python may raise between any two bytecodes. What C does in one call is
safe from it. Where Python must run between a donating computation and the storing of
its results (while JAX compiles, with effects, with setters of another framework), the
handlers are put off until the results are stored. No signal is lost: each one that came
is handled at the end of the block.
"""

from __future__ import annotations

import threading
from types import FrameType
from typing import Any

from .._compat import get_signal, set_signal, valid_signals


class Deferred:
    """A block in which the handlers of signals wait for its end.

    Only the main thread runs handlers, so it does nothing in any other.
    """

    __slots__ = ("_caught", "_handlers", "_waiting")

    def __init__(self):
        self._caught: dict[int, FrameType | None] = {}
        self._handlers: dict[int, Any] = {}
        self._waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take the place of a handler: remember the signal, or pass it on."""
        if self._waiting:
            # Once for each number, as the kernel does with signals that are pending.
            self._caught.setdefault(number, frame)
        else:
            # Still installed before the block began, or after an interrupted end.
            self._handlers[number](number, frame)

    def __enter__(self) -> Deferred:
        if threading.current_thread() is not threading.main_thread():
            return self
        # Before the first handler is replaced: from then on this object is called.
        self._waiting = True
        try:
            for number in valid_signals():
                if callable(handler := get_signal(number)):
                    self._handlers[number] = handler
                    set_signal(number, self)
        except BaseException:  # a handler that was not replaced yet
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._waiting = False
        try:
            for number, handler in self._handlers.items():
                # Code in the block may have installed a handler of its own; it stays.
                if get_signal(number) is self:
                    set_signal(number, handler)
        finally:
            self._run(list(self._caught.items()))

    def _run(self, caught: list[tuple[int, FrameType | None]]) -> None:
        # By recursion, so that a handler that raises does not cost the ones after it.
        if caught:
            number, frame = caught[0]
            try:
                self._handlers[number](number, frame)
            finally:
                self._run(caught[1:])
