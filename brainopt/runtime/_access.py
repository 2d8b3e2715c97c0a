# SPDX-License-Identifier: Apache-2.0
"""Reads and writes of Variables, the one way to a value wherever it is stored.

A value may stand in a frame of this thread, in a proxy on the stack of another
framework, in an object of that framework, or in the Variable itself; these functions
ask in that order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from .._compat import EAGER, current_trace, is_eager, thread_count
from .._typing import PyTree
from ..errors import TraceContextError
from . import _trackers, storage
from ._cell import Cell
from ._constants import any_constants, note_constant, warn_of_constants
from ._frame import at_rest, has_ended, local, read_outside
from ._guard import check_creation, check_rule, check_writable
from ._overlay import Expired
from ._places import all_kept, kept


def create(variable: Cell, value: PyTree) -> None:
    """Give a new Variable its first value, in the trace that is running now."""
    now = current_trace()
    variable._creation_trace = None if now == EAGER else now
    variable._proxy = None
    frame = local.top
    if frame is not None:
        frame.create(variable, value)
    else:
        variable._store(value)


def create_outside(variable: Cell, value: PyTree) -> None:
    """Give a new Variable a value that outlasts the trace that is running now.

    Args:
        variable: without a value so far.
        value: concrete; no tracer.
    """
    variable._creation_trace = None
    variable._proxy = None
    variable._store(value)


def read(variable: Cell) -> Any:
    """Return the current value of ``variable``.

    Raises:
        TraceContextError: the Variable was created in a trace that has ended.
    """
    # A framework may have been imported since the last read.
    if _trackers.pending_trackers:
        _trackers.activate()
    frame = local.top
    if frame is not None:
        frame.note_read()
    if not variable._native:
        value = variable._read()
    elif _trackers.active and (proxy := _trackers.proxy_of(variable)) is not None:
        value = proxy.value
    else:
        value = read_outside(frame, variable)
    if type(value) is Expired:
        raise TraceContextError(has_ended(variable, [f"created at {value.where}"]))
    if variable._creation_trace is not None:
        check_creation(variable, value)
    elif frame is None and not is_eager() and not _trackers.inside_framework():
        # A plain JAX trace: JAX takes the value for a constant, and shows it to nobody.
        note_constant(variable)
    if frame is not None and frame.trace != current_trace():
        check_rule(variable, value)
    return value


def write(variable: Cell, value: PyTree) -> None:
    """Set the value of ``variable``; legal only in the trace that threads it.

    Raises:
        TraceContextError: the write comes from a JAX trace that neither the
            Variable was created in nor a brainopt transform runs in.
    """
    # All checks come before the first change: after an error nothing has been written.
    check_writable((variable,), read)
    if any_constants():
        warn_of_constants((variable,))
    _put(variable, value)


def commit(variables: Sequence[Cell], values: Sequence[PyTree]) -> None:
    """Write many Variables at once: all of them or, after an error, none."""
    check_writable(variables, read)
    if any_constants():
        warn_of_constants(variables)
    if not at_rest():
        # Into a frame, which an exception drops as a whole: this need not be one call.
        for variable, value in zip(variables, values, strict=True):
            _put(variable, value)
        return
    with storage.lock:
        values = all_kept(_held(variables), values)
        _store_all(variables, values)


_ALONE = contextlib.nullcontext()


def _is_shared() -> bool:
    """Whether other threads may write what this code reads and writes."""
    return thread_count() > 0 and at_rest() and is_eager()


def exclusive() -> contextlib.AbstractContextManager[Any]:
    """Return a block to read, compute and write in, beside other threads.

    It does nothing while tracing, and where there is one thread. What runs inside is
    short: every other thread waits.
    """
    return storage.lock if _is_shared() else _ALONE


def move(variables: Sequence[Cell], values: Sequence[PyTree]) -> None:
    """Replace the values of Variables by the same values at other places."""
    check_writable(variables, read)
    with storage.lock:
        _store_all(variables, values)
        storage.note_move()


def _held(variables: Sequence[Cell]) -> list[Any]:
    if all(variable._native for variable in variables):
        return storage.snapshot(variables)
    return [variable._committed() for variable in variables]


def _store_all(variables: Sequence[Cell], values: Sequence[PyTree]) -> None:
    if all(variable._native for variable in variables):
        storage.commit(variables, values)
    else:
        getters = [variable._getter() for variable in variables]
        setters = [variable._setter() for variable in variables]
        undo = [variable._store for variable in variables]
        storage.commit_each(getters, setters, undo, values)


def snapshot(variables: Sequence[Cell]) -> list[Any]:
    """Return the values of all Variables as they are at one instant."""
    if at_rest() and all(variable._native for variable in variables):
        values = storage.snapshot(variables)
        for variable, value in zip(variables, values, strict=True):
            if type(value) is Expired or variable._creation_trace is not None:
                read(variable)  # raises the error of a Variable whose trace has ended
        return values
    return [read(variable) for variable in variables]


def _put(variable: Cell, value: PyTree) -> None:
    frame = local.top
    if not variable._native:
        variable._write(kept(variable._committed(), value) if at_rest() else value)
    elif _trackers.active and (proxy := _trackers.proxy_of(variable)) is not None:
        proxy.value = value
    elif frame is not None:
        frame.write(variable, value)
    elif type(variable._committed()) is Expired:
        read_outside(None, variable)  # raises: a value would hide that its trace ended
    else:
        variable._store(kept(variable._committed(), value))
