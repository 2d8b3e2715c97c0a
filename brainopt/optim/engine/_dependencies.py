# SPDX-License-Identifier: Apache-2.0
"""What a step reads and writes besides what it is given."""

from __future__ import annotations

from typing import Any

from ..._compat import is_eager
from ...core import Variable
from ...core._trace import Frame
from ...errors import TraceContextError, message


class Noting(Frame):
    """A frame that lists in ``missing`` what was read and not bound."""

    def meet(self, variable: Variable, value: Any) -> Any:
        """Return what the surroundings see."""
        self.missing[variable] = None
        return value


class Reads:
    """Mixin: runs a step as a pure function of the Variables that it touches."""

    __dict__: dict[str, Any]

    def _noting(
        self, own: dict[str, Variable], values: dict, run: Any
    ) -> tuple[Any, dict]:
        """Return what ``run()`` returns, and what it wrote of ``own``, by path."""
        inputs = {**own, **self._external_reads}
        known = [(inputs[path], values[path]) for path in inputs if path in values]
        with Noting(known) as frame:
            out = run()
            touched = set(frame.lesson().written)
            self._note_reads(frame, {*own.values(), *frame.born})
            return out, {p: frame.values[v] for p, v in own.items() if v in touched}

    @property
    def _external_reads(self) -> dict[str, Variable]:
        """The Variables of others that schedules and constraints read."""
        return vars(self).setdefault("_external", {})

    def _note_reads(self, frame: Frame, own: set[Variable]) -> None:
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
                if variable not in own and variable._birth is None:
                    self._external_reads[f"?{len(self._external_reads)}"] = variable
