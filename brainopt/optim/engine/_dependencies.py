# SPDX-License-Identifier: Apache-2.0
"""External reads: Variables that schedules and constraints of a step read.

These are functions of the user and may read any Variable. Inside `bo.jit` its frame
makes each such Variable an input. A step that the optimizer compiles by itself has no
such frame, so the reads are listed here while it is traced.

The trace that finds a read holds its value as a constant, which is right for that one
call. From the next call on the Variable is an argument under a new key. Other keys are
another structure to JAX, so it traces again, and the constant is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..._compat import is_eager
from ..._typing import PyTree, Values
from ...errors import TraceContextError, message
from ...runtime import Cell, Frame


class ReadFrame(Frame):
    """A frame that lists reads of unbound Variables in ``missing``."""

    def bind(self, variable: Cell, value: PyTree) -> Any:
        """Return the value that the frames around have."""
        self.missing[variable] = None
        return value


class Dependencies:
    """External reads of the functions of an optimizer.

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
        own: Values,
        values: Values,
        body: Callable[[], object],
    ) -> Any:
        """Run ``body`` with the given values of Variables; return its result.

        Args:
            own: the Variables of the optimizer.
            values: by the names of ``own`` and `reads`.
            body: may read Variables, and must not write any.

        Raises:
            TraceContextError: it wrote one.
        """
        # A caller inside a trace passes only what a step changes; what it does not pass
        # is read from the frames around.
        inputs = {**own, **self.reads}
        known = [(inputs[path], values[path]) for path in inputs if path in values]
        with ReadFrame(known) as frame:
            out = body()
            self._refuse_writes(v for v in frame.written if v not in frame.created_here)
            # Below a frame, its transform makes inputs of the reads. In eager code
            # nothing is kept for a second call.
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
            # One that was created in a trace has no value outside to pass. No path of
            # the optimizer's own Variables starts with "?".
            if variable not in own and variable._creation_trace is None:
                self.reads[f"?{len(self.reads)}"] = variable
