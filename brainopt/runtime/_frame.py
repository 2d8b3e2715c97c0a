# SPDX-License-Identifier: Apache-2.0
"""Frames: the values of Variables while a function is traced.

**How it works.** Each transform runs the user's function inside a `Frame`. The frames
of a thread form a stack. A read asks the innermost frame; a frame that was given the
value by its transform (a binding, usually a tracer) answers, and otherwise asks the
frame around it; below the last frame is the Variable itself. A write stops at the
innermost frame. So

* an exception drops the writes together with the frame: nothing has to be undone;
* no other thread can see a tracer, because frames belong to one thread and the
  Variables keep their values;
* the transform learns what the function read and wrote, hands the new values out
  through JAX as ordinary results, and commits them one frame further out.

A *sealed* frame is the body of a compiled function. Its trace outlives its
surroundings, so a value from outside would become a constant of the program. It lists
such Variables as ``missing``; the program is then made again with them as inputs.

A Variable that is created inside a frame exists for that frame alone. When the frame
ends, an `Expired` takes the place of the value, and a later read is an error that names
the line.

**What must never happen.** A tracer in the storage of a Variable. A write that a frame
does not see: it would be lost, or worse, kept by a trace that is thrown away (see
`_guard`). A value read from an outer frame inside a sealed one without being listed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from .._compat import current_trace, is_eager, is_staging, leave_traces
from .._typing import PyTree
from ..errors import TraceContextError, message
from . import _trackers, storage
from ._attributes import AttributeRecord, enter_record, leave_record, lost_state
from ._cell import Cell
from ._effects import Effects
from ._facts import Facts
from ._overlay import Expired, Overlay
from ._owner import start_recording, stop_recording
from ._revisions import Revision
from ._watches import Watch

cache_of = jax.make_user_context()
"""``with cache_of(x):`` finds none of the traces that JAX kept elsewhere than under x.

JAX keeps what it traced of a function (a `jax.jit`, or the body of a `jax.lax.scan`,
inside a function that is compiled), and with it the values that Variables had then. So
each frame has a cache of its own, and a new one when a Variable is written after some
were read. ``cache_of(None)`` selects the cache that all share;
use it only for code that reads Variables through brainopt transforms.

In eager code, as in a `grad` that nobody compiles, JAX compiles each operation by
itself, and would do so again in each new cache. There a cache is used again by a later
frame, unless a Variable or an attribute of a Node was read inside a further trace.
"""


class _Local(threading.local):
    def __init__(self):
        self.top: Frame | None = None
        self.read_in_rules: dict[str, None] = {}
        """The labels of Variables that rules of JAX read, in the outermost frame."""
        self.unspoilt: list[Any] = []
        """Caches of eager frames that hold no values of Variables."""


local = _Local()


def top() -> Frame | None:
    """Return the innermost frame of this thread."""
    return local.top


def at_rest() -> bool:
    """Whether neither brainopt nor a framework with a tracker runs a transform."""
    return local.top is None and not (_trackers.active and _trackers.inside_framework())


def created_in_frames(variables: Iterable[Cell]) -> bool:
    """Whether one of the Variables ends with a frame of this thread."""
    variables, frame = list(variables), local.top
    while frame is not None:
        if not frame.created_here.keys().isdisjoint(variables):
            return True
        frame = frame.parent
    return False


def abandon() -> None:
    """Leave all frames and traces, after an error in a call that was made at rest.

    Both are left in ``__exit__`` methods, where a signal handler may raise. Without
    this, all that the thread did later would be traced too, and never run.
    """
    while (frame := local.top) is not None:
        try:
            frame.__exit__(BaseException)
        finally:
            local.top = frame.parent
    leave_traces()


class Outermost:
    """A block after whose error this thread is at rest again, if it was before.

    Every transform runs in one: a signal handler may raise anywhere in it.
    """

    __slots__ = ("_was_at_rest",)

    def __enter__(self) -> None:
        self._was_at_rest = at_rest() and is_eager()

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is not None and self._was_at_rest:
            abandon()


class Frame(Overlay):
    """One run of a function whose reads and writes of Variables are threaded.

    Args:
        bindings: the value of each Variable known to the transform.
        effects: those of an earlier run of the same function.
        sealed: see `Overlay`.
        facts: where the attributes of Nodes that the run reads are recorded; None
            takes those of the frame around.

    Attributes:
        parent: the frame around this one, while it runs.
        records: the values recorded in this run by name; None where nobody asks.
        was_read: whether a Variable was read since the cache is as it is; in eager code
            whether that was inside a further trace.
        listeners: its places on the stacks of other frameworks.
    """

    __slots__ = (
        "_cached",
        "_caches",
        "_eager",
        "_record",
        "facts",
        "listeners",
        "parent",
        "records",
        "was_read",
    )

    def __init__(
        self,
        bindings: Iterable[tuple[Cell, PyTree]] = (),
        effects: Effects | None = None,
        sealed: bool = False,
        facts: Facts | None = None,
    ):
        self.parent: Frame | None = None
        self.facts = facts
        self.records: dict[str, Any] | None = None
        self._record: AttributeRecord | None = None
        self._caches: list[Any] = []
        self._eager: Frame | None = None  # the nearest frame in eager code
        self.was_read = False
        self.listeners: list[_trackers.TraceListener] = []
        self._cached = iter(effects.inner if effects is not None else ())
        super().__init__(bindings, sealed=sealed)

    def __enter__(self) -> Frame:
        _trackers.activate()
        for variable in self.values:
            if not variable._native:
                variable.check_threaded()
        self.parent = local.top
        if self.parent is None:
            local.read_in_rules.clear()
        self.trace = current_trace()
        # Made after the trackers were activated above: a framework imported since the
        # last frame must see this one.
        self.listeners = [tracker.listener(self) for tracker in _trackers.active]
        if not is_staging():
            self._eager = self
        elif self.parent is not None and not self.sealed:
            self._eager = self.parent._eager
        local.top = self
        if self._follows():
            start_recording()
        self._record = enter_record(self.facts, self.note_read)
        self._renew_cache()
        for listener in self.listeners:
            listener.open()
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        # Taken off its list one by one: if a signal handler raises in here, `abandon`
        # calls this method again, and it goes on where it stopped.
        while self.listeners:
            self.listeners.pop().close()
        # `was_read` is about the newest cache alone. Each older one was replaced by a
        # write that followed a read, so its traces hold values of Variables.
        unspoilt = self._eager is self and not self.was_read
        if self._record is not None and self._record.is_undone():
            unspoilt = False  # what JAX keeps of it would not run the Python again
        while self._caches:
            token, cache = self._caches[-1]
            cache.__exit__(None, None, None)
            self._caches.pop()
            if unspoilt:
                local.unspoilt.append(token)
            unspoilt = False
        local.top = self.parent
        lost = self._leave_record()
        for variable, expired in self.created_here.items():
            variable._store(expired)
        if lost and kind is None:  # an error of the user's function is not replaced
            raise lost_state(lost)

    def _renew_cache(self) -> None:
        known = local.unspoilt if self._eager is self else None
        token = known.pop() if known else object()
        cache = cache_of(token)
        cache.__enter__()
        self._caches.append((token, cache))
        self.was_read = False

    def _follows(self) -> bool:
        """Whether reads of attributes have to be noted."""
        outermost = self.parent is None
        return outermost or self.facts is not None or self._eager is self

    def note_read(self) -> None:
        """Note that what runs now depends on a Variable or an attribute."""
        near = self._eager
        if near is not self:
            self.was_read = True
        if near is not None and not near.was_read and is_staging():
            while near is not None:
                near.was_read = True
                near = near.parent

    def write(self, variable: Cell, value: PyTree) -> None:
        """Set the value of ``variable`` inside this run."""
        super().write(variable, value)
        # What JAX traced before this write holds the old value. Without a read in
        # between no trace can hold one, and the cache stays useful.
        if self.was_read:
            self._renew_cache()

    def _leave_record(self) -> list[str]:
        record, self._record = self._record, None
        if record is None:
            return []
        leave_record(record)
        if self._follows():
            stop_recording()
        return record.close(None if self.sealed else self.trace, self.created_here)

    def read(self, variable: Cell) -> Any:
        """Return the value of ``variable`` inside this run."""
        self.reads.add(variable)
        try:
            return self.values[variable]
        except KeyError:
            pass
        return self.bind(variable, read_outside(self.parent, variable))

    def create(self, variable: Cell, value: PyTree) -> None:
        """Give a Variable that is created inside this run its value; both end with it.

        Args:
            variable: without a value so far.
            value: may be a tracer.
        """
        self.created_here[variable] = Expired(_creation_site())
        variable._store(self.created_here[variable])
        self.values[variable] = value

    def cached_effects(self) -> Effects | None:
        """Return what the transform called now did in the earlier run of this one."""
        effects = next(self._cached, None)
        if effects is None or all(map(_exists, (*effects.written, *effects.known))):
            return effects
        # What the earlier run created for itself ended with it.
        return Effects(
            filter(_exists, effects.written),
            effects.inner,
            filter(_exists, effects.known),
        )

    def effects(self) -> Effects:
        """Return what this run did, with ``values`` up to date."""
        for listener in self.listeners:
            listener.sync()
        return Effects(self.written, self.inner, packs=self.packs)


def _exists(variable: Cell) -> bool:
    frame = local.top
    while frame is not None:
        if variable in frame.created_here:
            return True
        frame = frame.parent
    return type(variable._committed()) is not Expired


def read_outside(frame: Frame | None, variable: Cell) -> Any:
    """Return the value of ``variable`` as the code around a frame sees it."""
    if frame is not None:
        return frame.read(variable)
    # First the value, then the question whether a step is running. A step that begins
    # in between finds the reference held here, and donates a copy; in the other order
    # it could take the value between the question and the read.
    value = variable._committed()
    if variable in storage.in_flight:
        value = storage.after_flight(variable)
    if type(value) is Expired:
        raise TraceContextError(has_ended(variable, [f"created at {value.where}"]))
    return value


def has_ended(variable: Cell, where: Sequence[str]) -> str:
    """Return the message for a Variable whose trace has ended."""
    return message(
        f"{variable.label} was created inside a transformed function and is used "
        f"after that function ended:",
        where,
        "create Variables before the transform, or return the value.",
    )


def depend_on(revision: Revision) -> None:
    """Note that the function being traced depends on what ``revision`` counts."""
    depend_on_counts({revision: revision.count})


def depend_on_counts(counts: Mapping[Revision, int]) -> None:
    """Note that the function being traced depends on revisions at these counts."""
    # Every frame, not the innermost alone: the program of an outer one contains the
    # code of the inner one.
    frame = local.top
    while frame is not None:
        frame.revisions.extend(counts.items())
        frame = frame.parent
    for revision in counts:
        _trackers.depend(revision)


def note_packs(packs: Iterable[tuple[Cell, ...]]) -> None:
    """Note lists of Variables that the function being traced moves as one array."""
    if local.top is not None:
        local.top.packs.extend(packs)


def watch(watches: Iterable[Watch]) -> None:
    """Note what to look at between runs of the function being traced."""
    watches, frame = tuple(watches), local.top
    while frame is not None:
        frame.watches.extend(watches)
        frame = frame.parent


def depend_on_facts(facts: Facts) -> None:
    """Note that the function being traced depends on what another trace read."""
    frame = local.top
    while frame is not None and frame.facts is None:
        frame = frame.parent
    if frame is not None and frame.facts is not None:
        frame.facts.add(facts)


def _creation_site() -> str:
    frame = sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
