# SPDX-License-Identifier: Apache-2.0
"""Frameworks that trace by themselves, and Variables inside what they trace.

Such a framework keeps a stack of its running transforms and tells each of them which
of its states are read and written. Two things follow. A brainopt frame must sit on
that stack (a bridge), or it would not see what the model reads; and a Variable that is
touched while the framework traces must be one of its states (a cell), or the compiled
code would hold its value as a constant.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ._trace import Frame, Revision
    from ._variable import Variable


class Bridge(Protocol):
    """A brainopt frame on the stack of a framework."""

    def open(self) -> None:
        """Take the place on the stack."""

    def sync(self) -> None:
        """Bring the values that states have now into the frame."""

    def close(self) -> None:
        """Leave the stack, and give each state the value it had around the frame."""


class Tracker(Protocol):
    """What brainopt needs of a framework that traces by itself."""

    def inside(self) -> bool:
        """Whether a transform of the framework is running in this thread."""
        ...

    def innermost(self) -> bool:
        """Whether such a transform is nearer than every brainopt frame."""
        ...

    def bridge(self, frame: Frame) -> Bridge:
        """Return the bridge of a frame."""
        ...

    def cell(self, variable: Variable) -> Any:
        """Return a state with ``.value`` that stands for a Variable of ours."""
        ...

    def depend(self, revision: Revision) -> None:
        """Make what is traced now out of date once ``revision`` changes."""
        ...

    def admits(self, value: Any) -> bool:
        """Whether what now holds ``value`` belongs to the innermost transform."""
        ...


awake: list[Tracker] = []
"""The trackers of frameworks that are imported."""

kinds: tuple[type, ...] = ()
"""The classes of the states of these frameworks; each has a ``value``."""

dormant: dict[str, Callable[[], Any]] = {}
"""What to call once a package is imported; it may fill `awake`."""


_modules = sys.modules


def wake() -> None:
    """Wake the trackers whose package has been imported meanwhile."""
    for package, rouse in tuple(dormant.items()):
        if package in _modules:
            rouse()  # and then forget it: another thread is to wait for it meanwhile
            dormant.pop(package, None)


def inside() -> bool:
    """Whether a transform of some framework is running in this thread."""
    return any(tracker.inside() for tracker in awake)


def innermost() -> Tracker | None:
    """Return the framework whose transform is nearer than every frame, if any."""
    for tracker in awake:
        if tracker.innermost():
            return tracker
    return None


def depend(revision: Revision) -> None:
    """Tell the frameworks that are tracing that their functions depend on this."""
    for tracker in awake:
        if tracker.inside():
            tracker.depend(revision)


def cell_of(variable: Variable) -> Any:
    """Return the cell through which a Variable of ours is to be touched, or None.

    A cell lives as long as something of the framework holds it; then it must be used,
    since the framework may have given it a value of its own.
    """
    cell = variable._cell and variable._cell()
    if cell is None and variable._birth is None:
        for tracker in awake:
            if tracker.inside():
                cell = tracker.cell(variable)
                variable._cell = weakref.ref(cell)
                break
    return cell
