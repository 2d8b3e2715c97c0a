# SPDX-License-Identifier: Apache-2.0
"""Owners: the interface of a Node to the runtime, and how compiled code follows it.

**How it works.** A compiled function holds the Python values that it was traced with:
a flag, a list of layers, a number that is no Variable. Three pieces let it follow when
the user changes one.

1. *While a function is traced*, `Owner.__getattribute__` exists. It records which
   attributes the function reads, with their values (`Facts`). Outside of traces the
   method is absent, and an attribute is read by C code as ever; a method that stayed
   would cost every read some 70 ns.
2. *Each assignment* to an attribute of any owner advances one counter.
3. *A call* compares that counter with the one of its trace. Only where they differ are
   the recorded values compared, one by one. Lists and dicts change without an
   assignment, so each that was read is compared with its copy, in C.

**What must never happen.** The recorder left behind on the class after a trace: every
attribute of every Node would be slow. A value that holds a tracer kept as a fact: it
would keep its whole trace in memory. A read by the library itself recorded as one of
the user's: it would compile anew for a reason that the user cannot see.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

_PACKAGE = __name__.partition(".")[0]
_read_plainly = object.__getattribute__

dict_of: Callable[[Any], dict[str, Any]]
"""Return the attributes of an owner, without that being recorded."""


class Changes:
    """The count of all that may make compiled code out of date.

    That is: assignments to attributes of owners, settings with a `Revision`, and moves
    of Variables. Code that was current at this count still is, unless it read lists or
    dicts, which change without being counted.

    Two threads may count at once and lose one of two; it is enough that the count
    differs from what it was.
    """

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


changes = Changes()


class Owner:
    """Abstract: an object that owns Variables and other owners as attributes.

    What stands below `Node` knows it by this class: the runtime follows its attributes,
    the walk finds what it owns.
    """

    _resets: ClassVar[bool] = True
    """Whether `brainopt.Node.reset` sets its own Variables back."""

    _fits_a_line: ClassVar[bool] = False
    """Whether ``repr`` says in one line all that a tree should show of it."""
    _in_library = True
    """Whether it is one of our classes: its lists and dicts change by methods only,
    which count a `Revision`. Those of a plain Node and of users' classes are compared
    at each call."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        ours = cls.__module__.partition(".")[0] == _PACKAGE
        # `Node` stands directly below; users give it lists and dicts of their own.
        cls._in_library = ours and Owner not in cls.__bases__

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a new object, noted by the trace that is running as its own."""
        # `object.__new__` refuses arguments; that of another base class may need them.
        new = super().__new__
        plain = new is object.__new__
        created = new(cls) if plain else new(cls, *args, **kwargs)  # type: ignore[call-arg]
        key = id(created)
        _living[key] = weakref.ref(created, lambda _: _living.pop(key, None))
        recorder = recorders.top
        if recorder is not None:
            recorder.create(created)
        return created

    @property
    def name(self) -> str:
        """The display name, unique among living objects."""
        raise NotImplementedError

    def _owned_attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield ``(key, value)`` of what may hold Variables; ``""`` adds no key."""
        raise NotImplementedError

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield ``(key, value)`` of what makes the structure of this as a pytree."""
        raise NotImplementedError


_living: dict[int, weakref.ref[Owner]] = {}


def living_owners() -> list[Owner]:
    """Return all owners that exist, in the order of their creation."""
    return [o for ref in list(_living.values()) if (o := ref()) is not None]


# The descriptor itself: it is C code, and does not go through `__getattribute__`.
dict_of = Owner.__dict__["__dict__"].__get__


class Recorder:
    """Abstract: an observer of the owners in its thread."""

    __slots__ = ()

    def create(self, owner: Owner) -> None:
        """Note an object that was created."""

    def read(self, owner: Owner, name: str) -> None:
        """Note that an attribute is about to be read."""

    def write(self, owner: Owner, name: str) -> None:
        """Note that an attribute is about to be set or deleted."""


class _Recorders(threading.local):
    top: Recorder | None = None


recorders = _Recorders()
"""The recorder of this thread, if there is one."""


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Read attributes without that being recorded as reads of the user's function."""
    before, recorders.top = recorders.top, None
    try:
        yield
    finally:
        recorders.top = before


_lock = threading.Lock()
_count = 0


def _recorded_getattribute(self: Owner, name: str) -> Any:
    # Python itself looks up special names at any moment; ``__dict__`` is how `vars`
    # and loops over all attributes read, so it counts.
    recorder = recorders.top
    if recorder is not None and (name[:2] != "__" or name == "__dict__"):
        recorder.read(self, name)
    return _read_plainly(self, name)


def start_recording() -> None:
    """Record reads of attributes, in threads that have a recorder."""
    # Counted: frames nest and threads trace at the same time, but the method belongs to
    # the class, which all of them share.
    global _count
    with _lock:
        _count += 1
        if _count == 1:
            Owner.__getattribute__ = _recorded_getattribute  # type: ignore[method-assign]


def stop_recording() -> None:
    """Undo one `start_recording`."""
    global _count
    with _lock:
        _count -= 1
        if _count == 0:
            del Owner.__getattribute__


def changing(owner: Owner, name: str) -> None:
    """Note that an attribute is about to be set or deleted."""
    recorder = recorders.top
    if recorder is not None:
        recorder.write(owner, name)
    changes.count += 1
