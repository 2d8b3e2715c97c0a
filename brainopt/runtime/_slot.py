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
from itertools import repeat, starmap
from operator import call, is_
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
    settle()
    try:
        return get(slot)
    finally:
        if held:
            lock.release()


class Loan:
    """The values of some slots, lent to a step that is called again and again.

    A training loop looks at few of the values it computes. So a step leaves its
    results here and takes them from here the next time; whoever looks at any slot
    before that has them put back (`settle`). Until then nobody else holds them.

    Attributes:
        slots: where the values belong.
        box: ``[values, out]`` of the last step; the values may be fewer than the slots.
        settled: the values that were put back last, as long as the box has them too.
            Both are None in a loan that does not stand.
        decode: makes what the slots hold of the values of a step; None where they are
            the same. It runs Python, and so only once the values are kept.
    """

    __slots__ = ("_keep", "box", "decode", "settled", "slots")

    def __init__(self, slots: Iterable[Slot]):
        self.slots = tuple(slots)
        self.box: list[Any] = [None, None]
        self.settled: tuple | None = None
        self.decode: Callable[[tuple], tuple] | None = None
        self._keep = self.box.__setitem__

    def open(self) -> None:
        """Make this the loan that stands; its values are still in their slots."""
        global loan
        release()
        loan = self

    def lend(self, values: tuple) -> None:
        """Take ``values`` out of the first slots."""
        self.box[0] = values
        # An array that the step does not reuse would live on in its slot.
        deque(map(set_, self.slots, repeat(None, len(values))), 0)

    def run(self, compiled: Callable[..., tuple[tuple, Any]], arguments: tuple) -> Any:
        """Call ``compiled``, keep the values it returns, and return the rest.

        Between a donating computation and the keeping of its results no signal
        handler may run: the inputs are gone and the results would be lost. So both
        are one call into C.

        Args:
            compiled: returns ``(values, out)``.
            arguments: its positional arguments.
        """
        any(map(self._keep, _WHOLE, starmap(compiled, (arguments,))))
        out, self.box[1] = self.box[1], None
        if loan is not self:  # somebody ran another step meanwhile
            self.put()
        return out

    def put(self) -> None:
        """Put the values back into their slots."""
        values = self.box[0]
        if values is not self.settled:
            held = values if self.decode is None else self.decode(values)
            deque(map(set_, self.slots, held), 0)
            self.settled = values

    def close(self) -> None:
        """Put the values back, and forget the slots if this is the loan that stands.

        The garbage collector calls this in any thread at any moment, also where JAX
        holds a lock of its own. So it waits only where there is something to do:
        another thread that has our lock may be waiting for that one, and puts all
        values back before.
        """
        if self.box[0] is self.settled and loan is not self:
            return
        with lock:
            self.put()
            if loan is self:
                release()


_WHOLE = (slice(0, 2),)

loan: Loan | None = None
"""The loan that stands, if any."""

moves = 0
"""How often Variables were moved to another place; programs are compiled for places."""


def note_move() -> None:
    """Count a move of Variables to another place."""
    global moves
    moves += 1


def settle() -> None:
    """Have the values of the loan that stands in their slots, for others to see."""
    held = loan
    if held is not None and held.box[0] is not held.settled:
        with lock:
            held.put()


def release() -> None:
    """End the loan that stands, so that its slots alone hold the values."""
    global loan
    settle()
    if loan is not None:
        loan.box[0] = loan.settled = None
        loan = None


def commit(slots: Iterable[Slot], values: Iterable[Any]) -> None:
    """Store each value in its slot, all of them in one uninterruptible call."""
    with lock:
        settle()
        deque(map(set_, slots, values), 0)


def commit_if_unchanged(
    inputs: Sequence[Slot],
    values: Sequence[Any],
    slots: Iterable[Slot],
    new: Iterable[Any],
) -> bool:
    """Commit ``new`` if every input still holds the value it was read with."""
    with lock:
        settle()
        if not all(map(is_, map(get, inputs), values)):
            return False
        deque(map(set_, slots, new), 0)
        return True


def commit_each(
    getters: Iterable[Callable[[], Any]],
    setters: Iterable[Callable[[Any], None]],
    undo: Iterable[Callable[[Any], None]],
    values: Iterable[Any],
) -> None:
    """Give each value to its setter, in one call into C if the setters are C.

    A setter in Python can fail, or be interrupted; then ``undo`` puts all values back,
    without hooks, which might change or refuse the old values too.
    """
    with lock:
        settle()
        old = list(map(call, getters))
        try:
            deque(map(call, setters, values), 0)  # type: ignore[arg-type]
        except BaseException:
            deque(map(call, undo, old), 0)  # type: ignore[arg-type]
            raise


def snapshot(slots: Iterable[Slot]) -> list[Any]:
    """Return the values of all slots as they are at one instant."""
    with lock:
        settle()
        return list(map(get, slots))


def sole_count(read: Callable[[Any], Any], place: Any) -> int:
    """Return the reference count of a value that only ``place`` holds; 0: unknown.

    It differs between interpreters (2 on CPython 3.11) and with the way the value is
    read, so it is measured, not written down.
    """
    if not hasattr(sys, "getrefcount"):
        return 0
    return max(map(sys.getrefcount, map(read, (place,))))


def lonely() -> Slot:
    """Return a slot with a value that nobody else holds."""
    slot = Slot()
    slot._value = object()
    return slot


_SOLE = sole_count(get, lonely())


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
