# SPDX-License-Identifier: Apache-2.0
"""What schedules and constraints read besides what a step is given.

They are functions of the user and may read any Variable. A step that is compiled by the
optimizer itself must take such a Variable as an input: what it reads is listed here,
and passed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..._compat import is_eager
from ...errors import TraceContextError, message
from ...runtime import Cell, Frame


class ReadFrame(Frame):
    """A frame that lists in ``missing`` what was read and not bound."""

    def bind(self, variable: Cell, value: Any) -> Any:
        """Return what the surroundings see."""
        self.missing[variable] = None
        return value


class Dependencies:
    """The Variables of others that the functions of an optimizer read.

    Args:
        owner: the optimizer, for errors.

    Attributes:
        reads: the Variables, by a name that no path has.
    """

    def __init__(self, owner: str):
        self.reads: dict[str, Any] = {}
        self._owner = owner

    def run(
        self,
        own: Mapping[str, Any],
        values: Mapping[str, Any],
        body: Callable[[], Any],
    ) -> Any:
        """Return what ``body()`` returns where Variables have the values given.

        Args:
            own: the Variables of the optimizer.
            values: by the names of ``own`` and `reads`.
            body: may read Variables, and must not write any.

        Raises:
            TraceContextError: it wrote one.
        """
        inputs = {**own, **self.reads}
        known = [(inputs[path], values[path]) for path in inputs if path in values]
        with ReadFrame(known) as frame:
            out = body()
            self._refuse_writes(v for v in frame.written if v not in frame.created_here)
            if frame.parent is None and not is_eager():
                self._note(frame.missing, {*own.values(), *frame.created_here})
            return out

    def _refuse_writes(self, variables: Iterable[Cell]) -> None:
        if written := [variable.label for variable in variables]:
            raise TraceContextError(
                message(
                    f"A schedule or constraint of this {self._owner} writes:",
                    written,
                    "it can only read; write before or after the update.",
                )
            )

    def _note(self, read: Iterable[Cell], own: set[Cell]) -> None:
        for variable in read:
            if variable not in own and variable._creation_trace is None:
                self.reads[f"?{len(self.reads)}"] = variable
