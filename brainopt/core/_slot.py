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
from itertools import chain
from operator import is_
from typing import Any


class Slot:
    """A box with one value; the storage under every Variable."""

    __slots__ = ("_value",)


get: Callable[[Slot], Any] = Slot._value.__get__  # type: ignore[attr-defined]
set_: Callable[[Slot, Any], None] = Slot._value.__set__  # type: ignore[attr-defined]

lock = threading.RLock()
"""Held from reading the inputs of a step until its results are committed.

Tracing and compiling happen outside of it, so it is held for the time of a dispatch.
"""

in_flight: Set[Slot] = frozenset()
"""The slots whose values the running step may take; set by the holder of the lock."""

_PATIENCE = 10.0  # seconds; a host callback of the step itself would wait for ever


def after_flight(slot: Slot) -> Any:
    """Return the value of a slot once no step is overwriting it."""
    held = lock.acquire(timeout=_PATIENCE)
    try:
        return get(slot)
    finally:
        if held:
            lock.release()


def commit(slots: Iterable[Slot], values: Iterable[Any]) -> None:
    """Store each value in its slot, all of them in one uninterruptible call."""
    with lock:
        deque(map(set_, slots, values), 0)


def commit_if_unchanged(
    inputs: Sequence[Slot],
    values: Sequence[Any],
    slots: Iterable[Slot],
    new: Iterable[Any],
) -> bool:
    """Commit ``new`` if every input still holds the value it was read with."""
    with lock:
        if not all(map(is_, map(get, inputs), values)):
            return False
        deque(map(set_, slots, new), 0)
        return True


def snapshot(slots: Iterable[Slot]) -> list[Any]:
    """Return the values of all slots as they are at one instant."""
    with lock:
        return list(map(get, slots))


def run_and_commit(
    compiled: Callable[..., tuple], arguments: Sequence[Any], slots: Iterable[Slot]
) -> Any:
    """Call ``compiled`` and commit all but its first result, in one call into C.

    Between a donating computation and the commit of its results no signal handler
    may run: the inputs are gone and the results would be lost.

    Args:
        compiled: returns ``(out, *values)``.
        arguments: its positional arguments.
        slots: where the values go, in their order.
    """
    out = Slot()
    results = chain.from_iterable(map(compiled, *((a,) for a in arguments)))
    deque(map(set_, chain((out,), slots), results), 0)
    return out._value


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
