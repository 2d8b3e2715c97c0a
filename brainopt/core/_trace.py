# SPDX-License-Identifier: Apache-2.0
"""Frames: where the values of Variables live while a function is traced.

Each transform runs the user's function inside a `Frame`. Reads and writes of
Variables go to the frame, never to the Variable, so that an exception drops them,
no other thread sees a tracer, and the transform learns what the function touched.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.core

from .._compat import EAGER, current_trace
from ..errors import TraceContextError, message
from . import _slot, _trackers

if TYPE_CHECKING:
    from ._variable import Variable


cache_of = jax.make_user_context()
"""``with cache_of(x):`` finds none of the traces that JAX kept elsewhere than under x.

JAX keeps what it traced of a function (a `jax.jit`, or the body of a `jax.lax.scan`,
inside a function that is compiled), and with it the values that Variables had then. So
each run has a cache of its own; ``cache_of(None)`` is that of everybody, for code that
reads no Variable but through our transforms.
"""


class _Local(threading.local):
    top: Frame | None = None


_local = _Local()


def top() -> Frame | None:
    """Return the innermost frame of this thread."""
    return _local.top


def at_rest() -> bool:
    """Whether neither brainopt nor a framework with a tracker runs a transform."""
    return _local.top is None and not (_trackers.awake and _trackers.inside())


class Revision:
    """A count of changes to something that compiled functions have baked in."""

    __slots__ = ("__weakref__", "count")

    def __init__(self):
        self.count = 0

    def changed(self) -> None:
        """Make every function compiled from the old state trace anew."""
        self.count += 1

    def seen(self) -> None:
        """Note that the function being traced depends on this."""
        frame = _local.top
        while frame is not None:
            frame.revisions.append((self, self.count))
            frame = frame.parent
        _trackers.depend(self)


class Lesson:
    """What one run of a function taught: the Variables it wrote.

    Attributes:
        written: the Variables, in order of their first write.
        inner: the lessons of the transforms called inside, in order of the calls.
        known: further Variables that the transform has to thread though it only
            reads them.
    """

    __slots__ = ("inner", "known", "written")

    def __init__(
        self,
        written: Iterable[Variable] = (),
        inner: Sequence[Lesson] = (),
        known: Iterable[Variable] = (),
    ):
        self.written = tuple(written)
        self.inner = list(inner)
        self.known = tuple(known)


class Frame:
    """One run of a function whose reads and writes of Variables are threaded.

    Args:
        bindings: the value of each Variable known to the transform.
        lesson: what an earlier run of the same function taught.
        sealed: whether values of unknown Variables may not be closed over (the body
            of ``jit``, whose trace outlives its surroundings); they are listed in
            ``missing``.

    Attributes:
        values: the value of each Variable inside this run.
        written: the Variables written so far, in order.
        inner: the lessons of the transforms called so far.
    """

    __slots__ = (
        "_hints",
        "born",
        "bridges",
        "inner",
        "missing",
        "parent",
        "revisions",
        "sealed",
        "trace",
        "values",
        "written",
    )

    def __init__(
        self,
        bindings: Iterable[tuple[Variable, Any]] = (),
        lesson: Lesson | None = None,
        sealed: bool = False,
    ):
        self.values: dict[Variable, Any] = dict(bindings)
        self.sealed = sealed
        self.written: dict[Variable, None] = {}
        self.missing: dict[Variable, None] = {}
        self.born: dict[Variable, Dead] = {}
        self.inner: list[Lesson] = []
        self.revisions: list[tuple[Revision, int]] = []
        self._hints = iter(lesson.inner if lesson is not None else ())

    def __enter__(self) -> Frame:
        _trackers.wake()
        for variable in self.values:
            if not variable._native:
                variable.check_threaded()
        self.parent = _local.top
        self.trace = current_trace()
        self.bridges = [tracker.bridge(self) for tracker in _trackers.awake]
        _local.top = self
        for bridge in self.bridges:
            bridge.open()
        return self

    def __exit__(self, *_) -> None:
        while self.bridges:
            self.bridges.pop().close()
        _local.top = self.parent
        for variable, dead in self.born.items():
            variable._store(dead)

    def read(self, variable: Variable) -> Any:
        """Return the value of ``variable`` inside this run."""
        try:
            return self.values[variable]
        except KeyError:
            pass
        return self.meet(variable, read_outside(self.parent, variable))

    def has(self, variable: Variable) -> bool:
        """Whether this run was given the value of a Variable, or set it."""
        others = variable in self.missing or variable in self.born
        return variable in self.values and not others

    def meet(self, variable: Variable, value: Any) -> Any:
        """Return what this run sees of a Variable that it has not met before.

        Args:
            variable: not in ``values``.
            value: what the surroundings see.
        """
        if self.sealed:
            self.missing[variable] = None
            self.values[variable] = value
        return value

    def write(self, variable: Variable, value: Any) -> None:
        """Set the value of ``variable`` inside this run."""
        if self.sealed and variable not in self.values:
            self.missing[variable] = None
        self.values[variable] = value
        if variable not in self.born:
            self.written[variable] = None

    def adopt(self, variable: Variable, value: Any) -> None:
        """Take in a Variable created inside this run; it dies with it."""
        self.born[variable] = Dead(_creation_site())
        variable._store(self.born[variable])
        self.values[variable] = value

    def hint(self) -> Lesson | None:
        """Return what the earlier run learned about the transform called now."""
        lesson = next(self._hints, None)
        if lesson is None or all(map(_lives, (*lesson.written, *lesson.known))):
            return lesson
        # What the earlier run created for itself ended with it.
        return Lesson(
            filter(_lives, lesson.written), lesson.inner, filter(_lives, lesson.known)
        )

    def lesson(self) -> Lesson:
        """Return what this run taught, with ``values`` up to date."""
        for bridge in self.bridges:
            bridge.sync()
        return Lesson(self.written, self.inner)


class Dead:
    """Stands in a Variable whose value ended with the trace it was created in."""

    __slots__ = ("where",)

    def __init__(self, where: str):
        self.where = where


def _lives(variable: Variable) -> bool:
    frame = _local.top
    while frame is not None:
        if variable in frame.born:
            return True
        frame = frame.parent
    return type(variable._committed()) is not Dead


def read_outside(frame: Frame | None, variable: Variable) -> Any:
    """Return the value of ``variable`` as the code around a frame sees it."""
    if frame is not None:
        return frame.read(variable)
    value = variable._committed()
    if variable in _slot.in_flight:
        value = _slot.after_flight(variable)
    if type(value) is Dead:
        raise TraceContextError(_ended(variable, [f"created at {value.where}"]))
    return value


def read(variable: Variable) -> Any:
    """Return the current value of ``variable``.

    Raises:
        TraceContextError: the Variable was created in a trace that has ended.
    """
    if _trackers.dormant:
        _trackers.wake()
    if not variable._native:
        value = variable._read()
    elif _trackers.awake and (cell := _trackers.cell_of(variable)) is not None:
        value = cell.value
    else:
        value = read_outside(_local.top, variable)
    if type(value) is Dead:
        raise TraceContextError(_ended(variable, [f"created at {value.where}"]))
    if variable._birth is not None:
        _check_birth(variable, value)
    return value


def _check_birth(variable: Variable, value: Any) -> None:
    # Back at the level of the innermost frame, a trace that is no frame's own (a plain
    # jax.jit, jax.vmap, …) has ended, and so have the tracers made in it.
    frame = _local.top
    now = current_trace()
    if now != (EAGER if frame is None else frame.trace):
        return
    while frame is not None:
        if frame.trace == variable._birth or frame.has(variable):
            return
        frame = frame.parent
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise TraceContextError(
            message(
                f"{variable.label} was created inside a transformed function and is "
                f"used after that function ended, or by a transform inside it.",
                help="create Variables before the transform, or return the value; "
                "for an outer transform of jax take that of brainopt, as bo.vmap.",
            )
        )


def _ended(variable: Variable, where: Sequence[str]) -> str:
    return message(
        f"{variable.label} was created inside a transformed function and is used "
        f"after that function ended:",
        where,
        "create Variables before the transform, or return the value.",
    )


def write(variable: Variable, value: Any) -> None:
    """Set the value of ``variable``; legal only in the trace that threads it.

    Raises:
        TraceContextError: the write comes from a JAX trace that neither the
            Variable was created in nor a brainopt transform runs in.
    """
    _check_writable((variable,))
    _put(variable, value)


def commit(variables: Sequence[Variable], values: Sequence[Any]) -> None:
    """Write many Variables at once: all of them or, after an error, none."""
    _check_writable(variables)
    if not at_rest():
        for variable, value in zip(variables, values, strict=True):
            _put(variable, value)
    elif all(variable._native for variable in variables):
        _slot.commit(variables, values)
    else:
        getters = [variable._getter() for variable in variables]
        setters = [variable._setter() for variable in variables]
        undo = [variable._store for variable in variables]
        _slot.commit_each(getters, setters, undo, values)


def snapshot(variables: Sequence[Variable]) -> list[Any]:
    """Return the values of all Variables as they are at one instant."""
    if at_rest() and all(variable._native for variable in variables):
        values = _slot.snapshot(variables)
        for variable, value in zip(variables, values, strict=True):
            if type(value) is Dead or variable._birth is not None:
                read(variable)
        return values
    return [read(variable) for variable in variables]


def _check_writable(variables: Sequence[Variable]) -> None:
    _trackers.wake()
    frame = _local.top
    now = current_trace()
    home = EAGER if frame is None else frame.trace
    framework = _trackers.innermost()
    for variable in variables:
        if now == variable._birth:
            continue
        if framework is not None:
            fits = framework.admits(read(variable))
        else:
            fits = now == home
        if not fits:
            raise TraceContextError(_foreign_write(variable, frame))


def _put(variable: Variable, value: Any) -> None:
    frame = _local.top
    if not variable._native:
        variable._write(value)
    elif _trackers.awake and (cell := _trackers.cell_of(variable)) is not None:
        cell.value = value
    elif frame is not None:
        frame.write(variable, value)
    elif type(variable._committed()) is Dead:
        read_outside(None, variable)
    else:
        variable._store(value)


def _foreign_write(variable: Variable, frame: Frame | None) -> str:
    inside = "no brainopt transform" if frame is None else "a brainopt transform"
    help = (
        "use the transform of the same name from brainopt (`bo.jit`, `bo.grad`, "
        "`bo.for_loop`, …), or pass the value in and return it."
    )
    if not (variable._native or variable.direct):
        help = variable.host.mend  # there is no transform that would do
    return message(
        f"{variable.label} is written inside a JAX trace that brainopt does not "
        f"thread (a plain jax.jit, jax.grad, jax.vmap or jax.lax loop, inside "
        f"{inside}); the new value could not leave that trace.",
        help=help,
    )


def _creation_site() -> str:
    frame = sys._getframe(1)
    package = __name__.rpartition(".core.")[0]
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
