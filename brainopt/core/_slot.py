# SPDX-License-Identifier: Apache-2.0
"""Raw storage of Variables: read, written and committed without Python code between.

CPython looks for signals and switches threads between bytecodes, never inside one
call into C. So many slots are read or written by *one* such call: neither Ctrl-C nor
another thread can see half of it.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from itertools import chain, repeat, starmap
from operator import call, is_
from typing import Any


class Slot:
    """A box with one value; the storage under every Variable."""

    __slots__ = ("_value",)


get: Callable[[Slot], Any] = Slot._value.__get__  # type: ignore[attr-defined]
set_: Callable[[Slot, Any], None] = Slot._value.__set__  # type: ignore[attr-defined]

_NAME = repeat("_value")

lock = threading.RLock()
"""Held from reading the inputs of a step until its results are committed.

Tracing and compiling happen outside of it, so it is held for the time of a dispatch.
"""

in_flight: Set[Slot] = frozenset()
"""The slots whose values the running step may take; set by the holder of the lock."""

cache: tuple[Any, tuple] | None = None
"""``(owner, values)``: what the owner's last step left in its slots.

Whatever hands out or replaces a value drops it first, so while it stands every value is
held by its slot and this tuple alone, and the next step need not look. It is for
processes with one thread; where there are more, nobody sets it.
"""

_PATIENCE = 10.0  # seconds; a host callback of the step itself would wait for ever


def after_flight(slot: Slot) -> Any:
    """Return the value of a slot once no step is overwriting it."""
    global cache
    held = lock.acquire(timeout=_PATIENCE)
    cache = None
    try:
        return get(slot)
    finally:
        if held:
            lock.release()


def commit(slots: Iterable[Slot], values: Iterable[Any]) -> None:
    """Store each value in its slot, all of them in one uninterruptible call."""
    global cache
    with lock:
        cache = None
        deque(map(set_, slots, values), 0)


def commit_if_unchanged(
    inputs: Sequence[Slot],
    values: Sequence[Any],
    slots: Iterable[Slot],
    new: Iterable[Any],
) -> bool:
    """Commit ``new`` if every input still holds the value it was read with."""
    global cache
    with lock:
        cache = None
        if not all(map(is_, map(get, inputs), values)):
            return False
        deque(map(set_, slots, new), 0)
        return True


def commit_each(setters: Iterable[Callable[[Any], None]], values: Iterable[Any]):
    """Give each value to its setter, in one call into C if the setters are C."""
    with lock:
        deque(map(call, setters, values), 0)  # type: ignore[arg-type]


def snapshot(slots: Iterable[Slot]) -> list[Any]:
    """Return the values of all slots as they are at one instant."""
    global cache
    with lock:
        cache = None
        return list(map(get, slots))


def run_and_commit(
    compiled: Callable[..., tuple], arguments: tuple, slots: Iterable[Slot]
) -> tuple:
    """Call ``compiled``, commit all but its last result, and return the results.

    Between a donating computation and the commit of its results no signal handler
    may run: the inputs are gone and the results would be lost. So this is one call
    into C.

    Args:
        compiled: returns ``(*values, out)``.
        arguments: its positional arguments.
        slots: where the values go, in their order.
    """
    held = Slot()
    # Each stage asks the one before it only when it is itself asked for an item.
    call = map(set_, (held,), starmap(compiled, (arguments,)))
    values = chain.from_iterable(map(get, (held,)))
    # `setattr` is the faster of the two ways to set a slot in a chain of maps.
    deque(chain(call, map(setattr, slots, _NAME, values)), 0)
    return held._value


def _calibrate() -> int:
    # The count of a value that nobody but its slot holds differs between
    # interpreters (2 on CPython 3.11), so it is measured, not written down.
    if not hasattr(sys, "getrefcount"):
        return 0
    slot = Slot()
    slot._value = object()
    return max(map(sys.getrefcount, map(get, (slot,))))


_SOLE = _calibrate()


def all_sole(slots: Sequence[Slot]) -> bool:
    """Whether no value in ``slots`` is held by anything but its slot."""
    if not slots:
        return True
    return _SOLE > 0 and max(map(sys.getrefcount, map(get, slots))) <= _SOLE


def shared(slots: Sequence[Slot]) -> list[bool]:
    """For each slot, whether its value is held elsewhere too."""
    if _SOLE == 0:
        return [True] * len(slots)
    return [n > _SOLE for n in map(sys.getrefcount, map(get, slots))]
