# SPDX-License-Identifier: Apache-2.0
"""Cells: the interface of a Variable to the runtime.

A Variable is a `Cell`, so that everything in this wing reads, writes and names
Variables without knowing their class. The methods here are those of a cell that keeps
its value in its own slot; the Variable of another framework overrides them.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from .._typing import PyTree
from . import storage
from .storage import Slot, get, set_


class Comparisons:
    """A mark that is new after each ``==`` between a cell and anything but itself.

    Two equal lists of cells hold the very same cells if none was asked: C code compares
    an item with itself without a call, at some 2 ns.
    """

    __slots__ = ("latest",)

    def __init__(self):
        self.latest = object()


comparisons = Comparisons()


class Cell(Slot):
    """Abstract: a place for one value that transforms thread.

    The attributes begin with an underscore because a Variable shows its public names
    to users; within `brainopt.runtime` they are the interface of a cell.

    Attributes:
        _creation_trace: the JAX trace in which the cell was created; None if that was
            eager code.
        _proxy: a weak reference to the state that stands for this cell in a framework
            that traces by itself; None if there is none.
    """

    __slots__ = ("__weakref__", "_creation_trace", "_proxy")
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        comparisons.latest = object()
        return super().__eq__(other)

    _creation_trace: Any
    _proxy: weakref.ref | None

    _native = True
    """Whether the value is held by this object, not by one of another framework."""

    _direct = True
    """Whether a compiled step may take the value without asking another framework."""

    _draws = False
    """Whether the value is a random key, of which each lane of vmap gets its own."""

    _whole = False
    """Whether every device has the whole value, however others are divided."""

    @property
    def label(self) -> str:
        """The name of this cell in errors."""
        raise NotImplementedError

    def _committed(self) -> Any:
        """Return the value outside of every trace."""
        # The resident state of the last step may hold a newer value.
        storage.flush(self)
        return self._value

    def _store(self, value: PyTree) -> None:
        """Replace the value outside of every trace."""
        storage.flush(self)
        self._value = value

    def _getter(self) -> Callable[[], Any]:
        """Return what reads the committed value, in C where that is possible."""
        return functools.partial(get, self)

    def _setter(self) -> Callable[[Any], None]:
        """Return what stores a value, in C where that is possible."""
        return functools.partial(set_, self)

    def _read(self) -> Any:
        """Return the value as its framework sees it; not for native cells."""
        raise NotImplementedError

    def _write(self, value: PyTree) -> None:
        """Write through its framework; not for native cells."""
        raise NotImplementedError

    @property
    def _advice(self) -> str:
        """Alternative to a write in a foreign trace; empty for the usual advice."""
        return ""

    def check_threaded(self) -> None:
        """Raise TraceContextError inside a transform that cannot see the reads."""
