# SPDX-License-Identifier: Apache-2.0
"""The way to the wing that reads and writes files; it is imported when needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._typing import FilePath, Model, StateDict


# `core` lies below `checkpoint` and may not import it, so the face sets a loader here.
class _Checkpoints:
    """The functions that write and read checkpoint files."""

    def __init__(self):
        self.load: Callable[[], Any] | None = None

    def save(
        self, filename: FilePath, state: Model | StateDict, **setting: Any
    ) -> None:
        """Call `brainopt.checkpoint.save`."""
        self._wing().save(filename, state, **setting)

    def restore_and_compare(
        self, filename: FilePath, state: Model | StateDict, **setting: Any
    ) -> Any:
        """Call `brainopt.checkpoint.restore_and_compare`."""
        return self._wing().restore_and_compare(filename, state, **setting)

    def _wing(self) -> Any:
        assert self.load is not None, "brainopt/__init__.py names the wing"
        return self.load()


checkpoints = _Checkpoints()


def use_checkpoints(load: Callable[[], object]) -> None:
    """Set the loader of the functions.

    Args:
        load: imports and returns the module with these functions.
    """
    checkpoints.load = load
