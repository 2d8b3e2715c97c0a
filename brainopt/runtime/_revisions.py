# SPDX-License-Identifier: Apache-2.0
"""Revisions: numbers for the state of Python objects that compiled code depends on."""

from __future__ import annotations

import types
from collections.abc import Hashable

from .._typing import PyTree
from ._owner import changes

_MAX_KNOWN = 16
_BY_VALUE = (
    *(str, bytes, int, float, bool, types.NoneType),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType),
)


class Revision:
    """A number for the state of something that compiled functions have baked in.

    Two equal numbers mean the same state, so code that was compiled in one of them
    fits again whenever that state is back. Settings that compare by value are told
    with `note`: their combination gets a number, and gets it again when it returns.
    For every other change there is `changed`, which makes a state that never was.

    Attributes:
        count: the number of the present state.
        since: the smallest number of a state that may come back.
    """

    __slots__ = ("__weakref__", "_known", "_last", "_settings", "count", "since")

    def __init__(self):
        self.count = self.since = self._last = 0
        self._settings: dict[str, Hashable] = {}
        # The last few combinations, the latest at the end: they keep hooks alive.
        self._known: dict[frozenset, int] = {frozenset(): 0}

    def changed(self) -> None:
        """Make every function compiled so far trace anew, for good."""
        self._last += 1
        self.count = self.since = self._last
        self._known = {frozenset(self._settings.items()): self.count}
        changes.count += 1

    def note(self, name: str, value: PyTree) -> None:
        """Record the value of a setting; one that cannot be compared is a new state."""
        if not _compares(value):
            self._settings.pop(name, None)
            self.changed()
            return
        self._settings[name] = _typed(value)
        state = frozenset(self._settings.items())
        # Taken out and put in again, so that the first entry is the one that was not
        # used for longest, and is the one to drop.
        number = self._known.pop(state, None)
        if number is None:
            number = self._last = self._last + 1
        self._known[state] = self.count = number
        changes.count += 1
        if len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]


def _compares(value: PyTree) -> bool:
    if isinstance(value, tuple):
        return all(map(_compares, value))
    if isinstance(value, _BY_VALUE):
        return True
    # An object with the hash of `object` equals nothing but itself, so a callable one
    # can be a key by identity.
    return callable(value) and type(value).__hash__ is object.__hash__


def _typed(value: PyTree) -> Hashable:
    """Return a key that tells 1, 1.0 and True apart."""
    if isinstance(value, tuple):
        return tuple(map(_typed, value))
    return type(value), value
