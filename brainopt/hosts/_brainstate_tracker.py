# SPDX-License-Identifier: Apache-2.0
"""The tracker of brainstate: frames on its stack, proxies for Variables of ours.

**How it works.** brainstate keeps a stack of traces for each thread. A read or write of
a state first calls `read_its_value` or `write_its_value` of each trace on the stack,
from the outermost to the innermost; a trace may put a value of its own into the state
at the first access. Three objects join that protocol:

* `FrameListener` is one of our frames on the stack. At the first access of a state it
  puts the value of the frame there (as a rule a tracer) and keeps a way back. `sync`
  takes the values of the states into the frame, and `close` restores the states. A
  state that is created meanwhile ends with the frame, if its value is a tracer.
* `StateProxy` is a state that stands for a Variable of ours inside their transforms.
  Outside of them its value is that of the Variable. Inside, the value is in an overlay
  that belongs to the thread.
* `RevisionState` is a state that a compiled function of theirs seems to read. Its value
  is there as long as the settings of an optimizer are what they were; afterwards the
  access fails, so that the function is compiled again.

**What must never happen.** A tracer in a state after the frame has ended, also after an
error. A tracer that another thread can see, as in the slot of a Variable. A write that
two frames list: the innermost alone does, and the others get it by its commit. A proxy
that a trace takes for a state created inside: it would end with that trace.

Source: the public `brainstate.StateTraceStack`, whose methods a listener has.
"""

from __future__ import annotations

import functools
import itertools
import operator
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np

from .._compat import current_trace, is_of_current_trace, is_of_trace
from .._typing import Foreign, PyTree
from ..core import Host
from ..errors import TraceContextError, message
from ..runtime import Cell, Expired, Overlay, Revision, top


class Raw:
    """The bare value of a state, without telling any trace."""

    def __init__(self, state: Foreign):
        self.state = state
        # A slot or a property of the class, or an entry of the instance: each is
        # reached by a callable in C, except for a property.
        held = getattr(type(state), "_value", None)
        self.in_c = not isinstance(held, property)
        self.get: Callable[[], Any]
        self.set: Callable[[Any], None]
        if isinstance(held, types.MemberDescriptorType | property):
            self.get = functools.partial(held.__get__, state)
            self.set = functools.partial(held.__set__, state)
        else:
            self.get = functools.partial(operator.getitem, vars(state), "_value")
            self.set = functools.partial(operator.setitem, vars(state), "_value")


class FrameListener:
    """A frame on brainstate's stack.

    Args:
        tracker: whose stack.
        frame: whose values the states get.
    """

    name = None  # brainstate joins the names of the stack

    def __init__(self, tracker: BrainstateTracker, frame: Overlay):
        self.tracker = tracker
        self.frame = frame
        self._seen: dict[int, tuple[Any, Raw, Cell, Callable[[], None]]] = {}
        self.created: list[Any] = []

    def open(self) -> None:
        """Take the place on the stack, and watch for new states."""
        context = self.tracker.context
        context.new_state_catcher.append(self.created)
        context.state_stack.append(self)

    def read_its_value(self, state: Foreign) -> None:
        """Give a state the value it has in the frame, at its first access."""
        if isinstance(state, RevisionState):
            self.frame.revisions += state.counts.items()
            return
        if id(state) in self._seen:
            return
        variable = self.tracker.variable_of(state)
        self.frame.reads.add(variable)
        raw = Raw(state)
        outer = raw.get()
        # A proxy without a value of its own goes back to none. With the outer value put
        # back, it would hide what is written to the Variable afterwards.
        surfaced = isinstance(state, StateProxy) and state.surfaced
        back = state.surface if surfaced else functools.partial(raw.set, outer)
        self._seen[id(state)] = state, raw, variable, back
        if variable in self.frame.values:
            raw.set(self.frame.values[variable])
        else:
            self._check_older(variable, outer)
            raw.set(self._bound(variable, outer))

    def _bound(self, variable: Cell, outer: Any) -> Any:
        if not self.frame.sealed or current_trace() == self.frame.trace:
            return self.frame.bind(variable, outer)
        # A transform inside this one reads it. The stand-in must outlast that trace.
        with jax.ensure_compile_time_eval():
            return self.frame.bind(variable, outer)

    def _stands_in(self, variable: Cell) -> bool:
        """Whether a frame around this one has a stand-in for a missing value."""
        frame = getattr(self.frame, "parent", None)
        while frame is not None:
            if variable in frame.missing:
                return True
            frame = frame.parent
        return False

    def _check_older(self, variable: Cell, outer: Any) -> None:
        if self._stands_in(variable):
            return
        own = self.frame.sealed and self.frame.trace  # which began with the frame
        if own and any(is_of_trace(leaf, own) for leaf in jax.tree.leaves(outer)):
            raise TraceContextError(
                message(
                    f"{variable.label} was given a value inside a transform without "
                    f"brainstate being told, as `reset_state` of a delay does.",
                    help="reset the model outside, before the step.",
                )
            )

    def write_its_value(self, state: Foreign) -> None:
        """Note that a state is written; the value comes after this call."""
        self.read_its_value(state)
        if isinstance(state, RevisionState):
            return
        # What a frame inside this one writes comes here when that is committed.
        variable = self._seen[id(state)][2]
        if variable not in self.frame.created_here and self.frame is top():
            self.frame.written[variable] = None

    def sync(self) -> None:
        """Bring the values that states have now into the frame."""
        for _, raw, variable, _ in self._seen.values():
            self.frame.values[variable] = raw.get()

    def close(self) -> None:
        """Leave the stack; restore the states, and end those created in the frame."""
        context = self.tracker.context
        context.state_stack.remove(self)
        # By identity, since the lists of two frames are equal when both are empty.
        for i, created in enumerate(context.new_state_catcher):
            if created is self.created:
                del context.new_state_catcher[i]
                break
        for _, _, _, back in reversed(self._seen.values()):
            back()
        for state in self.created:
            self._end(state, len(context.state_stack))
        self._seen.clear()
        self.created.clear()

    def _end(self, state: Foreign, depth: int) -> None:
        raw = Raw(state)
        # A state tells the traces above its level alone. Left as it was, the traces
        # around this frame would not see it used.
        state._level = min(state._level, depth)
        leaves = jax.tree.leaves(raw.get())
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return
        if not hasattr(state, "_invalidate_trace_value"):  # brainstate before 0.3
            raw.set(Expired("a transformed function"))
            return
        state._invalidate_trace_value()
        # brainpy keeps the value elsewhere than where this call put its mark.
        raw.set(vars(state)["_value"])


class _Overlays(threading.local):
    def __init__(self):
        self.values: dict[int, Any] = {}


_overlays = _Overlays()
_NONE = object()


class StateProxy:
    """Abstract: a brainstate state that stands for a Variable of ours.

    The value stays in the Variable. While brainstate traces, the value inside the
    trace lies in an overlay of the thread, so that no other thread sees a tracer.
    """

    variable: Cell
    _level: int
    _context: Any

    def __init__(self, variable: Cell):
        vars(self)["variable"] = variable
        # A random state would take None as a wish to be seeded by numpy.
        _outside(self._context, super().__init__, np.zeros(2, np.uint32))
        vars(self).pop("_value", None)
        vars(self)["_level"] = 0

    def _get(self) -> Any:
        values = _overlays.values
        if values:
            value = values.get(id(self), _NONE)
            if value is not _NONE:
                return value
        return self.variable._committed()  # type: ignore[attr-defined]

    def _set(self, value: PyTree) -> None:
        if self._context.state_stack:
            _overlays.values[id(self)] = value
        else:
            self.surface()
            self.variable._store(value)  # type: ignore[attr-defined]

    _value = property(_get, _set)

    @property
    def surfaced(self) -> bool:
        """Whether its value is that of the Variable, with none for a trace."""
        return id(self) not in _overlays.values

    def surface(self) -> None:
        """Drop the value inside a trace that has ended."""
        _overlays.values.pop(id(self), None)

    def _tracked_get(self) -> Any:
        for trace in self._context.state_stack[self._level :]:
            trace.read_its_value(self)
        return self._get()

    def _tracked_set(self, value: PyTree) -> None:
        for trace in self._context.state_stack[self._level :]:
            trace.write_its_value(self)
        self._set(value)

    value = property(_tracked_get, _tracked_set)

    def _read_value(self) -> Any:
        return self._get()

    def restore_value(self, value: PyTree) -> None:
        """Take a value back; brainstate counts that as a read."""
        for trace in self._context.state_stack[self._level :]:
            trace.read_its_value(self)
        self._set(value)


def _outside(context: Foreign, init: Callable[..., None], value: PyTree) -> None:
    """Create a state that no trace takes for one of its own."""
    catchers, context.new_state_catcher = context.new_state_catcher, []
    try:
        init(value)
    finally:
        context.new_state_catcher = catchers


class RevisionState:
    """Abstract: a brainstate state that holds the counts of what one trace saw.

    Compiled functions look at the states they were traced with. One whose value cannot
    be had makes them trace anew, or, in an older brainstate, raise.
    """

    counts: dict[Revision, int]
    held: dict[str, tuple]
    _context: Any
    _number = itertools.count()

    def __init__(self):
        vars(self)["counts"] = {}
        # JAX sees by the structure of the inputs that it is another one.
        vars(self)["held"] = {f"revisions {next(self._number)}": ()}
        _outside(self._context, super().__init__, ())
        vars(self).pop("_value", None)
        vars(self)["_level"] = 0

    def _get(self) -> Any:
        for revision, count in self.counts.items():
            if revision.count != count:
                raise TraceContextError(
                    message(
                        "An optimizer or a schedule was changed after this function "
                        "of brainstate was compiled, which does not see it.",
                        help="compile it again, or use `bo.jit`.",
                    )
                )
        return self.held

    def _set(self, value: PyTree) -> None:
        pass

    _value = property(_get, _set)

    def _tracked_get(self) -> Any:
        value = self._get()
        for trace in self._context.state_stack:
            trace.read_its_value(self)
        return value

    value = property(_tracked_get, _set)

    _read_value = _get

    def restore_value(self, value: PyTree) -> None:
        """Leave it as it is."""


def _is_theirs(trace: Any) -> bool:
    return type(trace) is not FrameListener


class BrainstateTracker:
    """The tracker of brainstate; see `brainopt.runtime.Tracker`.

    Args:
        host: makes the Variables of states.
        context: brainstate's stacks of this thread.
        state: the class that proxies derive from.
        random: the class that proxies of random keys derive from, so that brainstate
            splits them over the lanes of its vmap.
    """

    def __init__(self, host: Host, context: Foreign, state: type, random: type):
        self.host = host
        self.context = context
        self._proxy = type("StateProxy", (StateProxy, state), {"_context": context})
        self._key = type("KeyProxy", (StateProxy, random), {"_context": context})
        self._revision_state = type(
            "RevisionState", (RevisionState, state), {"_context": context}
        )
        self._revisions: weakref.WeakKeyDictionary[Any, RevisionState] = (
            weakref.WeakKeyDictionary()
        )

    def inside(self) -> bool:
        """Whether a brainstate transform is running in this thread."""
        stack = self.context.state_stack  # empty nearly always, and asked at each step
        return bool(stack) and any(map(_is_theirs, stack))

    def innermost(self) -> bool:
        """Whether such a transform is nearer than every frame."""
        stack = self.context.state_stack
        return bool(stack) and _is_theirs(stack[-1])

    def listener(self, frame: Overlay) -> FrameListener:
        """Return the listener that puts a frame on the stack."""
        return FrameListener(self, frame)

    def proxy(self, variable: Cell) -> Any:
        """Return a state that stands for a Variable of ours."""
        return self._key(variable) if variable._draws else self._proxy(variable)

    def depend(self, revision: Revision) -> None:
        """Expire the running trace once ``revision`` changes."""
        trace = next(t for t in reversed(self.context.state_stack) if _is_theirs(t))
        state = self._revisions.get(trace)
        if state is None:
            state = self._revisions[trace] = self._revision_state()
        # The first count that the trace saw, which a later change must differ from.
        state.counts.setdefault(revision, revision.count)
        _ = state.value  # a read, by which the trace takes it among its inputs

    def variable_of(self, state: Foreign) -> Cell:
        """Return the Variable of a state."""
        return (
            state.variable
            if isinstance(state, StateProxy)
            else self.host.variable(state)
        )

    def admits(self, value: PyTree) -> bool:
        """Whether what now holds ``value`` belongs to the trace that is running."""
        return all(
            is_of_current_trace(leaf)
            for leaf in jax.tree.leaves(value)
            if isinstance(leaf, jax.core.Tracer)
        )
