# SPDX-License-Identifier: Apache-2.0
"""Raw storage of Variables: read, written and committed without Python code between.

**How it works.** CPython looks for signals and switches threads between bytecodes,
never inside one call into C. So many slots are read or written by *one* such call:
neither Ctrl-C nor another thread can see half of it. The pattern is
``deque(map(function, slots, values), 0)``: `map` is an iterator written in C, the
functions are slot descriptors, written in C too, and a deque of length 0 runs the
iterator to its end without keeping anything.

A training loop reads few of the values that its steps compute. So the values of the
last step stay in a `ResidentState`, out of which the next step takes them again, and
return to their slots only when somebody reads or writes any Variable (`flush`). Every
function here that looks into a slot flushes first; `get` and `set_` do not, and are for
callers that have flushed.

`lock` is held from reading the inputs of a step until its results are stored. A thread
that reads a value which a running step may overwrite waits for it (`after_flight`).

**What must never happen.** A step whose inputs are donated and whose results are not
stored: the state would be lost. A value in a slot *and* among the donated inputs: it
would be deleted under its reader. Two active resident states: the older would write
its values over newer ones. Python code between a donating computation and the storing
of its results, unless signals are held back (see `_signals`).
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import repeat, starmap
from operator import call, is_
from typing import Any

from .._typing import PyTree
from ._owner import changes
from ._signals import Deferred


class Slot:
    """A box with one value; the storage under every Variable."""

    __slots__ = ("_value",)


# A slot of a class, not an entry of ``__dict__``: its descriptor reads and writes in C,
# so `map` can call it without a bytecode in between.
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
    end = time.monotonic() + _PATIENCE
    # In short pieces, so that handlers of signals run while a long step is waited for.
    while time.monotonic() < end:
        with _taken(timeout=0.05) as held:
            if held:
                flush()
                return get(slot)
    flush()
    return get(slot)


@contextlib.contextmanager
def _taken(timeout: float) -> Iterator[bool]:
    """Take the lock within a time in seconds, and say whether that succeeded."""
    # A signal between `acquire` and the `try` would leave the lock taken for ever.
    with Deferred():
        held = lock.acquire(timeout=timeout)
        try:
            yield held
        finally:
            if held:
                lock.release()


class ResidentState:
    """The values of some slots, kept by the step that computed them for its next call.

    While it is active nobody else holds the values, so the step need not count
    references before it donates them.

    The first values may be flat arrays, each of which holds the values of many slots.
    To take them apart is slow, and done when one of these slots is read or written; for
    any other slot the other values alone are written back.

    Attributes:
        slots: where the values belong, those of the flat arrays first.
        box: ``[values, out]`` of the last step; the values may be fewer than the slots.
        written_back: the values that were written to the slots last, while the box has
            them too. Both are None where it is not active.
        partly: the values of which those that are no flat arrays were written back.
        packed: the slots whose values are in flat arrays.
        apart: makes the values of these slots of the flat arrays, one list for each.
        decode: makes what the slots hold of the other values; None where they are the
            same. Both run Python, and so only once the values are stored.
    """

    __slots__ = (
        "_flat",
        "_keep",
        "apart",
        "box",
        "decode",
        "packed",
        "partly",
        "slots",
        "written_back",
    )

    def __init__(
        self,
        slots: Iterable[Slot],
        packed: Iterable[Slot] = (),
        flat: int = 0,
        apart: Callable[[tuple], tuple] | None = None,
    ):
        self.slots = tuple(slots)
        self.box: list[Any] = [None, None]
        self.written_back: tuple | None = None
        self.partly: tuple | None = None
        self.packed, self._flat, self.apart = frozenset(packed), flat, apart
        self.decode: Callable[[tuple], tuple] | None = None
        self._keep = self.box.__setitem__

    def activate(self) -> None:
        """Make this the active one; its values are still in their slots."""
        global resident
        release()
        resident = self

    def take(self, values: tuple, count: int) -> None:
        """Take ``values``, which stand in the first ``count`` slots, out of them."""
        self.box[0] = values
        # The slots must let go of the values: an array that is donated but that XLA
        # does not reuse would otherwise keep its memory until the next flush.
        deque(map(set_, self.slots, repeat(None, count)), 0)

    def take_again(self, read: Callable[[int], tuple]) -> None:
        """Take again the values that are `partly` written back.

        Args:
            read: returns those of the slots from a place on.
        """
        # From here on their slots alone hold them, so that references can be counted.
        self.box[0], self.partly = self.box[0][: self._flat], None
        values = read(len(self.packed))
        self.box[0] = (*self.box[0], *values)
        others = self.slots[len(self.packed) :]
        deque(map(set_, others, repeat(None, len(values))), 0)

    def run(self, compiled: Callable[..., tuple[tuple, Any]], arguments: tuple) -> Any:
        """Call ``compiled``, keep the values it returns, and return the rest.

        Between a donating computation and the keeping of its results no signal
        handler may run: the inputs are gone and the results would be lost. So both
        are one call into C.

        Args:
            compiled: returns ``(values, out)``.
            arguments: its positional arguments.
        """
        # `map` asks `starmap` for its only item, which calls `compiled`, and hands the
        # result to ``box.__setitem__``, which returns None; `any` drives it. No
        # bytecode runs in between.
        any(map(self._keep, _WHOLE, starmap(compiled, (arguments,))))
        out, self.box[1] = self.box[1], None
        if resident is not self:  # somebody ran another step meanwhile
            self.write_back()
        return out

    def write_back(self) -> None:
        """Write the values to their slots."""
        values = self.box[0]
        if values is not self.written_back:
            self.write_partly()
            if self.apart is not None:
                deque(map(set_, self.slots, self.apart(values[: self._flat])), 0)
            self.written_back = values

    def write_partly(self) -> None:
        """Write the values that are no flat arrays to their slots."""
        values = self.box[0]
        # Once only: afterwards somebody may have written to these slots.
        if values is not self.partly:
            held = values[self._flat :] if self._flat else values
            held = held if self.decode is None else self.decode(held)
            deque(map(set_, self.slots[len(self.packed) :], held), 0)
            self.partly = values

    def close(self) -> None:
        """Write the values to their slots, and end the residence if this is active.

        The garbage collector calls this in any thread at any moment, also where JAX
        holds a lock of its own, for which the thread that has our lock may be waiting.
        So this never waits: whoever has the lock, or the next reader, writes the values
        back, since `resident` goes on holding them.
        """
        if self.box[0] is self.written_back and resident is not self:
            return
        with _taken(timeout=0) as held:
            if held:
                self.write_back()
                if resident is self:
                    release()


_WHOLE = (slice(0, 2),)

resident: ResidentState | None = None
"""The active one, if any; its values are newer than those in its slots."""

moves = 0
"""The count of moves of Variables to another place, which programs are compiled for."""


def note_move() -> None:
    """Count a move of Variables to another place."""
    global moves
    moves += 1
    changes.count += 1


def flush(slot: Slot | None = None) -> None:
    """Write pending values back to their Variables.

    Args:
        slot: the only one that the caller looks into.
    """
    # Looked at before the lock is taken: every read comes here, and nearly always there
    # is nothing to write back.
    held = resident
    if held is not None and held.box[0] is not held.written_back:
        with lock:
            if slot is None or slot in held.packed or not held.packed:
                held.write_back()
            else:
                held.write_partly()


def release() -> None:
    """Deactivate the resident state, so that the slots alone hold the values."""
    global resident
    flush()
    if resident is not None:
        resident.box[0] = resident.written_back = resident.partly = None
        resident = None


def commit(slots: Iterable[Slot], values: Iterable[PyTree]) -> None:
    """Store each value in its slot, all of them in one uninterruptible call."""
    with lock:
        flush()
        deque(map(set_, slots, values), 0)


def commit_if_unchanged(
    inputs: Sequence[Slot],
    values: Iterable[PyTree],
    slots: Iterable[Slot],
    new: Iterable[PyTree],
) -> bool:
    """Commit ``new`` if every input still holds the value it was read with."""
    with lock:
        flush()
        if not all(map(is_, map(get, inputs), values)):
            return False
        deque(map(set_, slots, new), 0)
        return True


def commit_each(
    getters: Iterable[Callable[[], Any]],
    setters: Iterable[Callable[[Any], None]],
    undo: Iterable[Callable[[Any], None]],
    values: Iterable[PyTree],
) -> None:
    """Give each value to its setter, in one call into C if the setters are C.

    A setter in Python can fail, or be interrupted; then ``undo`` puts all values back,
    without hooks, which might change or refuse the old values too.
    """
    with lock:
        flush()
        old = list(map(call, getters))
        try:
            deque(map(call, setters, values), 0)  # type: ignore[arg-type]
        except BaseException:
            deque(map(call, undo, old), 0)  # type: ignore[arg-type]
            raise


def snapshot(slots: Iterable[Slot]) -> list[Any]:
    """Return the values of all slots as they are at one instant."""
    with lock:
        flush()
        return list(map(get, slots))


def baseline_refcount(read: Callable[[Any], Any], place: object) -> int:
    """Return the reference count of a value that only ``place`` holds; 0: unknown.

    It differs between interpreters (2 on CPython 3.11) and with the way the value is
    read, so it is measured, not written down.
    """
    if not hasattr(sys, "getrefcount"):
        return 0
    # By the same iterators as `none_shared` counts with: each of them may hold a
    # reference while it passes the value on.
    return max(map(sys.getrefcount, map(read, (place,))))


def unshared_slot() -> Slot:
    """Return a slot with a value that nobody else holds."""
    slot = Slot()
    slot._value = object()
    return slot


_SOLE = baseline_refcount(get, unshared_slot())


def none_shared(slots: Sequence[Slot]) -> bool:
    """Whether no value in ``slots`` is held by anything but its slot."""
    if not slots:
        return True
    return _SOLE > 0 and max(map(sys.getrefcount, map(get, slots))) <= _SOLE


def shared(slots: Sequence[Slot]) -> list[bool]:
    """For each slot, whether its value is held elsewhere too."""
    if _SOLE == 0:
        return [True] * len(slots)
    return [n > _SOLE for n in map(sys.getrefcount, map(get, slots))]
