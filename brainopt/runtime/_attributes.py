# SPDX-License-Identifier: Apache-2.0
"""Attributes of Nodes inside a frame: reads become facts, tracers are removed.

A tracer, or a Variable created in a trace, ends with the frame. An attribute that was
given one is set back to its former value, so that no Node keeps a value that has ended.
An attribute that was read before it was given a tracer was meant as state: an error.
A run that is given up sets everything back: the same Python runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import numpy as np

from .._compat import is_of_trace
from .._typing import PyTree
from .._warnings import warn_user
from ..errors import TraceContextError, TracingWarning, message
from ._cell import Cell
from ._facts import MISSING, Facts, refill, value_of
from ._overlay import Expired
from ._owner import Owner, Recorder, dict_of, recorders


class AttributeRecord(Recorder):
    """Record of the attributes of Nodes that are read and set during one frame.

    Args:
        parent: the record around this one, if any.
        facts: where reads are recorded; None takes those of the parent.
        note_read: is called at each read.
    """

    __slots__ = (
        "_at_start",
        "_created",
        "_note_read",
        "_own",
        "_seen",
        "_when_undone",
        "_writes",
        "facts",
        "is_given_up",
        "parent",
    )

    def __init__(
        self,
        parent: Recorder | None,
        facts: Facts | None,
        note_read: Callable[[], None],
    ):
        self._note_read = note_read
        self.is_given_up = False
        self._when_undone: list[Callable[[], None]] = []
        self._at_start: dict[int, Any] = {}
        self.parent = parent if isinstance(parent, AttributeRecord) else None
        self._own = facts is not None
        inherited = None if self.parent is None else self.parent.facts
        self.facts = facts if self._own else inherited
        # In eager code nobody compares facts; there they are for the containers alone.
        self._seen = self.facts or Facts()
        self._created: dict[int, Owner] = {}
        self._writes: dict[tuple[int, str], tuple[Owner, str, Any, bool]] = {}

    def create(self, owner: Owner) -> None:
        """Note an object that ends with this frame; its attributes are no facts."""
        self._created[id(owner)] = owner

    def created(self, owner: Owner) -> bool:
        """Whether an object was created in the running trace."""
        if id(owner) in self._created:
            return True
        # A trace with facts of its own outlives the frames around it. To it, an object
        # that one of them created comes from outside, and its attributes are facts.
        outer = None if self._own else self.parent
        return outer is not None and outer.created(owner)

    def read(self, owner: Owner, name: str) -> None:
        """Record the value of an attribute as a fact."""
        self._note_read()
        if not self.created(owner):
            self._seen.read(owner, name)

    def write(self, owner: Owner, name: str) -> None:
        """Remember what an attribute was before the function set it."""
        key = id(owner), name
        if key not in self._writes and not self.created(owner):
            known = self.facts is not None and self.facts.knows(owner, name)
            self._writes[key] = owner, name, value_of(owner, name), known

    def close(self, trace: Any, variables: Mapping[Cell, PyTree]) -> list[str]:
        """Set back each attribute whose value ends with the frame.

        Args:
            trace: the trace of the frame; None: every tracer ends with it.
            variables: the Variables created in the frame.

        Returns:
            ``Class.attribute`` of state that was given a value which ends here.
        """
        if self.is_given_up:
            self._undo()
            return []
        lost, noted = [], []
        for owner, name, before, known in self._writes.values():
            now = value_of(owner, name)
            if now is not before and self._expires(now, trace, variables):
                _set_back(owner, name, before)
                place = f"{type(owner).__name__}.{name}"
                # A Variable or Node that ends here was meant to stay, and so was a
                # number or array that was read before. The rest may be a cache: it is
                # only warned of.
                created = isinstance(now, Cell | Owner)
                state = known and isinstance(before, jax.Array | np.ndarray | float)
                (lost if created or state else noted).append(place)
            elif self.parent is not None:
                # It outlasts this frame, but perhaps not the one around.
                self.parent._writes.setdefault(
                    (id(owner), name), (owner, name, before, known)
                )
            elif self._own and known and _is_counted(before, now):
                _warn_of_counter(f"{type(owner).__name__}.{name}")
        # Before `Facts.close`, which copies the containers for later comparisons.
        for place, new in self._seen.take_back(
            lambda value: self._expires(value, trace, variables)
        ):
            leaves = jax.tree.leaves(new, is_leaf=_is_whole)
            (lost if any(map(_is_whole, leaves)) else noted).append(place)
        if self.parent is not None and self.parent._seen is not self._seen:
            self._seen.hand_over(self.parent._seen)
        if self._own and self.facts is not None:
            for owner, name, _, _ in self._writes.values():
                self.facts.update(owner, name)
            self.facts.close()
        if self.parent is not None:
            self.parent._when_undone += self._when_undone
        for place in noted:
            _warn_of_tracer(place)
        return lost

    def is_undone(self) -> bool:
        """Whether the run is given up, and changed something that is set back."""
        return self.is_given_up and self._has_changes()

    def _has_changes(self) -> bool:
        return bool(self._writes) or bool(self._seen.changed(self._at_start))

    def _undo(self) -> None:
        """Set every attribute, list and dict back to what it was before."""
        for owner, name, before, _ in self._writes.values():
            _set_back(owner, name, before)
        for container, copy in self._seen.changed(self._at_start):
            refill(container, copy)
        for tell in self._when_undone:
            tell()

    def _expires(
        self, value: PyTree, trace: Any, variables: Mapping[Cell, PyTree]
    ) -> bool:
        for leaf in jax.tree.leaves(value, is_leaf=_is_whole):
            if isinstance(leaf, Cell):
                if leaf in variables or (
                    self._own and type(leaf._committed()) is Expired
                ):
                    return True
            elif isinstance(leaf, Owner):
                if id(leaf) in self._created:
                    return True
            elif isinstance(leaf, jax.core.Tracer) and (
                trace is None or is_of_trace(leaf, trace)
            ):
                return True
        return False


def _is_whole(value: PyTree) -> bool:
    return isinstance(value, Cell | Owner)


def _set_back(owner: Owner, name: str, before: Any) -> None:
    if before is MISSING:
        dict_of(owner).pop(name, None)
    else:
        dict_of(owner)[name] = before


def _is_counted(before: Any, now: Any) -> bool:
    """Whether a number was read and then replaced by another, as in ``self.t += 1``."""
    kinds = {type(before), type(now)}
    return kinds <= {int, float} and before != now


_warned: set[str] = set()


def _warn_of_counter(place: str) -> None:
    if place in _warned:
        return
    _warned.add(place)
    warn_user(
        message(
            "A plain attribute was changed while a function was traced; calls of the "
            "compiled function do not change it again:",
            [place],
            "count in a `bo.Variable`.",
        ),
        TracingWarning,
    )


def _warn_of_tracer(place: str) -> None:
    if place in _warned:
        return
    _warned.add(place)
    warn_user(
        message(
            "A plain attribute was given an array of a traced function, and is set "
            "back to what it was:",
            [place],
            "keep what lasts from call to call in a `bo.Variable`; return what the "
            "caller needs.",
        ),
        TracingWarning,
    )


def lost_state(places: list[str]) -> TraceContextError:
    """Return the error for state that was kept in plain attributes."""
    return TraceContextError(
        message(
            "State was kept in plain attributes inside a transform, which carries "
            "Variables alone; they are set back to what they were:",
            places,
            "create a `bo.Variable` for each before the transform, as in `__init__`, "
            "and assign to it; or call the function once before, without a transform, "
            "if it creates them at its first call.",
        )
    )


def rehearse() -> None:
    """Say at the begin of a run that it only looks, and leaves nothing on Nodes."""
    if isinstance(record := recorders.top, AttributeRecord):
        record.is_given_up, record._at_start = True, record._seen.contents()


def give_up() -> None:
    """Say at the end of a run that the same Python runs again."""
    if isinstance(record := recorders.top, AttributeRecord):
        record.is_given_up = True


def when_undone(tell: Callable[[], None]) -> None:
    """Call ``tell`` if the changes of this run are set back by one around it."""
    record = recorders.top
    if isinstance(record, AttributeRecord) and record._has_changes():
        record._when_undone.append(tell)


def enter_record(facts: Facts | None, note_read: Callable[[], None]) -> AttributeRecord:
    """Put a record on the stack of this thread."""
    record = AttributeRecord(recorders.top, facts, note_read)
    recorders.top = record
    return record


def leave_record(record: AttributeRecord) -> None:
    """Take a record off the stack of this thread."""
    recorders.top = record.parent
