# SPDX-License-Identifier: Apache-2.0
"""External reads: Variables that schedules and constraints of a step read.

These are functions of the user and may read any Variable, and write none. A transform
around the step makes inputs of what they read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._typing import PyTree, Values
from ...errors import TraceContextError, message
from ...runtime import Cell, Frame


class ReadFrame(Frame):
    """A frame that leaves unbound Variables to the frames around."""

    def bind(self, variable: Cell, value: PyTree) -> Any:
        """Return the value that the frames around have."""
        return value


def run_reading(
    optimizer: object, own: Values, values: Values, body: Callable[[], object]
) -> Any:
    """Run ``body`` with the given values of Variables; return its result.

    Args:
        optimizer: for errors.
        own: its Variables, by path.
        values: by the same paths. What a caller inside a trace does not pass is read
            from the frames around.
        body: may read Variables, and must not write any.

    Raises:
        TraceContextError: it wrote one.
    """
    known = [(own[path], values[path]) for path in own if path in values]
    with ReadFrame(known) as frame:
        out = body()
        written = [v.label for v in frame.written if v not in frame.created_here]
        if written:
            owner = type(optimizer).__name__
            raise TraceContextError(
                message(
                    f"A schedule or constraint of this {owner} writes:",
                    written,
                    "it can only read; write before or after the update.",
                )
            )
        return out
