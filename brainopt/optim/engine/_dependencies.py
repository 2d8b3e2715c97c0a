# SPDX-License-Identifier: Apache-2.0
"""What a step reads and writes besides what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._compat import is_eager
from ...errors import TraceContextError, message
from ...runtime import Cell, Frame


class Noting(Frame):
    """A frame that lists in ``missing`` what was read and not bound."""

    def bind(self, variable: Cell, value: Any) -> Any:
        """Return what the surroundings see."""
        self.missing[variable] = None
        return value


class Reads:
    """Mixin: runs a step as a pure function of the Variables that it touches."""

    __dict__: dict[str, Any]

    def _noting(
        self, own: Mapping[str, Any], values: dict, run: Any
    ) -> tuple[Any, dict]:
        """Return what ``run()`` returns, and what it wrote of ``own``, by path."""
        inputs = {**own, **self._external_reads}
        known = [(inputs[path], values[path]) for path in inputs if path in values]
        with Noting(known) as frame:
            out = run()
            touched = set(frame.effects().written)
            self._note_reads(frame, {*own.values(), *frame.created_here})
            return out, {p: frame.values[v] for p, v in own.items() if v in touched}

    @property
    def _external_reads(self) -> dict[str, Any]:
        """The Variables of others that schedules and constraints read."""
        return vars(self).setdefault("_external", {})

    def _note_reads(self, frame: Frame, own: set[Cell]) -> None:
        """Note what a run read of others, and refuse that it writes there."""
        if written := [v.label for v in frame.written if v not in own]:
            raise TraceContextError(
                message(
                    f"A schedule or constraint of this {type(self).__name__} writes:",
                    written,
                    "it can only read; write before or after the update.",
                )
            )
        if frame.parent is None and not is_eager():
            for variable in frame.missing:
                if variable not in own and variable._creation_trace is None:
                    self._external_reads[f"?{len(self._external_reads)}"] = variable
