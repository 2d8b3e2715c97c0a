# SPDX-License-Identifier: Apache-2.0
"""A restore of arrays that span processes: in all of them, or in none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import TracebackType

import jax

from .._typing import Model
from ..distributed import exchange, spans
from ..errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    CheckpointMismatchError,
    first_line,
    message,
)
from .tree._paths import leaves
from .tree._protocol import Stateful


class Agreement:
    """A block of preparations that ends alike in every process: done, or an error.

    It does nothing where no array of the nodes spans processes.

    Args:
        path: what is restored.
        nodes: into what.
        timeout: seconds to wait for the other processes.
    """

    def __init__(self, path: str, nodes: Model, timeout: float) -> None:
        folder, self._name = os.path.split(os.path.abspath(path))
        self._path = path
        self._meeting = f"restore from {folder}"
        self._timeout = timeout
        self._needed = jax.process_count() > 1 and any(_spanning(nodes))

    def __enter__(self) -> Agreement:
        """Return the agreement itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Report an error before the agreement to the other processes."""
        # The others are waiting for this process. Not on Ctrl-C: there is no time to
        # meet.
        if self._needed and isinstance(error, Exception):
            self._exchange(error)

    def reach(self) -> None:
        """Wait until every process is ready.

        Raises:
            CheckpointCorruptError: another process found a damaged or missing file.
            CheckpointError: another process could not, or restores something else.
            DistributedError: a process did not come in time; it names which.
        """
        if not self._needed:
            return
        # Once only: an error below is known to all, and `__exit__` must not report it.
        self._needed = False
        reports = self._exchange(None)
        failed = [
            f"process {process}: {report['failed']}"
            for process, report in enumerate(reports)
            if report["failed"]
        ]
        others = [
            f"process {process}: {report['name']}"
            for process, report in enumerate(reports)
            if report["name"] != self._name
        ]
        if failed:
            # The class is that of the cause where all agree, so that a loop which
            # passes over damaged steps works in every process.
            kinds = {report["kind"] for report in reports if report["failed"]}
            fact = f"{self._path} was not restored; nothing has changed:"
            raise _KINDS[kinds.pop() if len(kinds) == 1 else ""](message(fact, failed))
        if others:
            fact = f"The processes restore other files than {self._name}:"
            raise CheckpointError(message(fact, others))

    def _exchange(self, error: Exception | None) -> list[dict[str, str]]:
        kind = ""
        if isinstance(error, CheckpointCorruptError | CheckpointIOError):
            kind = "corrupt"
        elif isinstance(error, CheckpointMismatchError):
            kind = "mismatch"
        failed = "" if error is None else first_line(error)
        text = json.dumps({"name": self._name, "failed": failed, "kind": kind})
        return [json.loads(t) for t in exchange(self._meeting, text, self._timeout)]


_KINDS = {
    "": CheckpointError,
    "corrupt": CheckpointCorruptError,
    "mismatch": CheckpointMismatchError,
}


def _spanning(nodes: Model) -> Iterator[bool]:
    for _, node in leaves(nodes, lambda part: isinstance(part, Stateful)):
        if isinstance(node, Stateful) and not isinstance(node, type):
            for value in node.state_dict().values():
                yield isinstance(value, jax.Array) and spans(value.sharding)
