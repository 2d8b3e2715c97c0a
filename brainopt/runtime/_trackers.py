# SPDX-License-Identifier: Apache-2.0
"""Trackers: the interface to frameworks that trace by themselves.

**How it works.** A framework such as brainstate keeps a stack of its running transforms
for each thread, and tells the transforms on it which of its states are read and
written. Its transforms and ours may be nested in any order, by an adapter for each
direction:

1. *Our transform around their states.* A `Frame` puts a `TraceListener` on their stack
   while it runs. The listener gives each state the value that it has in the frame (a
   tracer, as a rule), takes the new values over (`sync`), and restores the states at
   the end (`close`).
2. *Their transform around our Variables.* A Variable that is used while their transform
   runs is read and written through a proxy: a state of the framework which stands for
   the Variable, so that the transform threads it as one of its own.

The innermost transform decides whether a write is legal: our guard compares traces, and
where theirs is the innermost it asks `admits`. `depend` makes a compiled function of
theirs trace again after a setting of ours has changed.

brainopt imports no such package. `pending_trackers` holds a function for each package,
and the first frame, read or write after its import calls it.

**What must never happen.** A frame that is not on their stack: it would take the states
of a model for constants and lose what is written to them. A listener that stays on the
stack after its frame: later transforms would report to it. A Variable that is read past
its proxy: the proxy may hold a newer value, and compiled code would get a constant.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .._typing import PyTree
from ._cell import Cell
from ._overlay import Overlay
from ._revisions import Revision


class TraceListener(Protocol):
    """A brainopt frame on the stack of a framework."""

    def open(self) -> None:
        """Take the place on the stack."""

    def sync(self) -> None:
        """Bring the values that states have now into the frame."""

    def close(self) -> None:
        """Leave the stack, and give each state the value it had around the frame."""


class Tracker(Protocol):
    """The interface of a framework that traces by itself."""

    def inside(self) -> bool:
        """Whether a transform of the framework is running in this thread."""
        ...

    def innermost(self) -> bool:
        """Whether such a transform is nearer than every brainopt frame."""
        ...

    def listener(self, frame: Overlay) -> TraceListener:
        """Return the listener that puts a frame on the stack."""
        ...

    def proxy(self, variable: Cell) -> Any:
        """Return a state with ``.value`` that stands for a Variable of ours."""
        ...

    def depend(self, revision: Revision) -> None:
        """Expire the running trace once ``revision`` changes."""
        ...

    def admits(self, value: PyTree) -> bool:
        """Whether what now holds ``value`` belongs to the innermost transform."""
        ...


active: list[Tracker] = []
"""The trackers of frameworks that are imported."""

pending_trackers: dict[str, Callable[[], Any]] = {}
"""Functions to call once a package is imported; they may call `add_tracker`."""

_kinds: tuple[type, ...] = ()

_modules = sys.modules


def add_tracker(tracker: Tracker, kind: type) -> None:
    """Add the tracker of a framework whose states are of this kind.

    Args:
        tracker: asked from now on.
        kind: the class of the states; each has a ``value``.
    """
    global _kinds
    _kinds += (kind,)
    active.append(tracker)


def foreign_kinds() -> tuple[type, ...]:
    """Return the classes of the states of frameworks that are imported."""
    return _kinds


def activate() -> None:
    """Activate the trackers whose package has been imported meanwhile."""
    # A copy, since entries are removed meanwhile, perhaps by another thread too.
    for package, start in tuple(pending_trackers.items()):
        if package in _modules:
            # Removed afterwards only: another thread has to wait for it meanwhile.
            start()
            pending_trackers.pop(package, None)


def inside_framework() -> bool:
    """Whether a transform of some framework is running in this thread."""
    return any(tracker.inside() for tracker in active)


def innermost() -> Tracker | None:
    """Return the framework whose transform is nearer than every frame, if any."""
    for tracker in active:
        if tracker.innermost():
            return tracker
    return None


def depend(revision: Revision) -> None:
    """Make the functions that frameworks trace now depend on a revision."""
    for tracker in active:
        if tracker.inside():
            tracker.depend(revision)


def proxy_of(variable: Cell) -> Any:
    """Return the proxy through which a Variable of ours is to be touched, or None.

    A proxy exists as long as something of the framework holds it; then it must be
    used, since the framework may have given it a value of its own.
    """
    proxy = variable._proxy and variable._proxy()
    # A Variable created in a trace ends with it, so there is nothing to thread.
    if proxy is None and variable._creation_trace is None:
        for tracker in active:
            if tracker.inside():
                proxy = tracker.proxy(variable)
                variable._proxy = weakref.ref(proxy)
                break
    return proxy
