# SPDX-License-Identifier: Apache-2.0
"""Facts: the Python values that a trace read, and whether they are still the same."""

from __future__ import annotations

import dataclasses
import types
import weakref
from collections import UserDict, UserList, deque
from collections.abc import Callable
from itertools import chain
from operator import is_
from typing import Any

import jax.core

from .._typing import PyTree
from ._cell import Cell, comparisons
from ._equality import same
from ._owner import Owner, changes, dict_of

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
"""Placeholder for an attribute that an object does not have by itself."""

_END = (object(),)  # what no list of a user holds

_OWN = "_name"  # the display name, which is made when it is first asked for


class Facts:
    """Attributes of owners, and lists and dicts in them, as a trace read them.

    An object is held weakly: once it is gone nobody can change it, and what a trace
    created for itself is dropped this way. A value is held, to be compared by identity.

    Attributes:
        count: the count of `changes` for which the values were found to be the same.
        safe: the lists and dicts that were read and hold nothing but what is equal only
            to what can take its place, as strings and Nodes, or tells that it was
            compared, as Variables. They change without an assignment, so each call
            compares them with ``copies``; the same objects are found in C, at some 2 ns
            each.
        copies: what was in each of ``safe``.
        views: the other lists, and the keys and values of dicts, with a mark after
            each, so that a change of length shows too. For numbers (1, 1.0 and True are
            equal) and arrays only identity tells; that takes some 30 ns each.
        items: what was in all of them, one after the other.
    """

    __slots__ = (
        "_before",
        "_containers",
        "_values",
        "copies",
        "count",
        "items",
        "safe",
        "views",
    )

    def __init__(self):
        self._values: dict[tuple[int, str], tuple[weakref.ref, Any]] = {}
        self._before: dict[int, tuple[str, Any, Any]] = {}
        self.count = changes.count
        self._containers: list[tuple[Any, Any]] = []
        self.safe: list[Any] = []
        self.copies: list[Any] = []
        self.views: list[Any] = []
        self.items: list[Any] = []

    def read(self, owner: Owner, name: str) -> None:
        """Record the value that an attribute has now, unless that was done before."""
        key = id(owner), name
        held = self._values.get(key)
        # An id is given to a new object once the old one is gone: the reference tells.
        if held is not None and held[0]() is owner:
            return
        in_library = type(owner)._in_library
        if in_library and name == "__dict__":
            return
        value = value_of(owner, name)
        if isinstance(value, jax.core.Tracer):
            return  # it would keep its trace in memory
        self._values[key] = weakref.ref(owner), value
        if not in_library:
            for container in _containers_in(value):
                if id(container) not in self._before:
                    place = f"{type(owner).__name__}.{name}"
                    self._before[id(container)] = place, container, _copy(container)

    def knows(self, owner: Owner, name: str) -> bool:
        """Whether an attribute was read."""
        return (id(owner), name) in self._values

    def update(self, owner: Owner, name: str) -> None:
        """Record the value that an attribute has after the trace, if it was read."""
        if (id(owner), name) in self._values:
            self._values[id(owner), name] = weakref.ref(owner), value_of(owner, name)

    def add(self, other: Facts) -> None:
        """Take over what another trace read and this one did not."""
        self._values = {**other._values, **self._values}

    def close(self) -> None:
        """End the recording: drop what the trace created, and copy the containers."""
        self.count = changes.count
        self._before.clear()
        self._values = {k: v for k, v in self._values.items() if v[0]() is not None}
        values = [
            list(value.values()) if name == "__dict__" else value
            for (_, name), (ref, value) in self._values.items()
            if (owner := ref()) is not None and not type(owner)._in_library
        ]
        # The lists made in the lines above belong to nobody and must not be followed.
        fresh = {id(values), *(id(value) for value in values)} - {
            id(value) for _, value in self._values.values()
        }
        containers = [c for c in _containers_in(values) if id(c) not in fresh]
        self._containers = [(held, _copy(held)) for held in containers]
        self.safe = [held for held in containers if _is_safe(held)]
        self.copies = list(map(_copy, self.safe))
        others = [held for held in containers if not _is_safe(held)]
        self.views = [part for held in others for part in (*_views(held), _END)]
        self.items = list(chain.from_iterable(self.views))

    def take_back(self, ended: Callable[[Any], bool]) -> list[tuple[str, list[Any]]]:
        """Set back the containers that a trace put something into that ends with it.

        Args:
            ended: tells whether a value does.

        Returns:
            The place of each such container, and what was in it.
        """
        places = []
        for place, container, copy in self._before.values():
            known = set(map(id, _items(copy)))
            new = [x for x in _items(container) if id(x) not in known]
            if any(map(ended, new)):
                refill(container, copy)
                places.append((place, new))
        return places

    def contents(self) -> dict[int, Any]:
        """Return copies of the containers that are known now."""
        return {key: _copy(held) for key, (_, held, _) in self._before.items()}

    def changed(self, known: dict[int, Any]) -> list[tuple[Any, Any]]:
        """Return the containers that have other items than before, and copies of then.

        Args:
            known: copies of those that were known then.
        """
        before = [
            (c, known.get(key, copy)) for key, (_, c, copy) in self._before.items()
        ]
        return [(c, copy) for c, copy in before if _ids(c) != _ids(copy)]

    def hand_over(self, other: Facts) -> None:
        """Let the frame around look after the containers too."""
        other._before = {**self._before, **other._before}

    def hold(self) -> bool:
        """Whether everything that was read is the same as it was."""
        # Read before the comparison: what another thread assigns meanwhile makes the
        # next call compare again.
        count = changes.count
        replaced = not self.same_items()
        for (_, name), (ref, value) in self._values.items():
            owner = ref()
            if owner is None:
                continue
            now = value_of(owner, name)
            if now is not value:
                if not same(now, value):
                    return False
                replaced = True
        # Something was replaced by an equal object. That needs no new program unless a
        # list or dict differs in content; from now on the new objects are followed.
        if replaced and not all(same(_copy(c), copy) for c, copy in self._containers):
            return False
        if replaced:
            for (key, name), (ref, _) in list(self._values.items()):
                if (owner := ref()) is not None:
                    self._values[key, name] = ref, value_of(owner, name)
            self.close()
        self.count = count
        return True

    def same_items(self) -> bool:
        """Whether the lists and dicts hold the very objects that they held."""
        before = comparisons.latest
        try:
            if self.safe != self.copies or comparisons.latest is not before:
                return False
        except Exception:  # an array in the place of a string has no truth value
            return False
        if not self.views:
            return True
        return all(map(is_, chain.from_iterable(self.views), self.items))

    def differences(self) -> list[str]:
        """Return ``Class.attribute: was, is`` of what changed."""
        lines = []
        for (_, name), (ref, value) in self._values.items():
            owner = ref()
            if owner is None or name == "__dict__":
                continue
            now = value_of(owner, name)
            if now is not value and not same(now, value):
                lines.append(f"{type(owner).__name__}.{name}")
        return lines


def value_of(owner: Owner, name: str) -> Any:
    """Return what an object itself has under a name, its class left aside."""
    held = dict_of(owner)
    if name == "__dict__":
        return {k: v for k, v in held.items() if k != _OWN}
    return held.get(name, MISSING)


def _containers_in(value: PyTree) -> list[Any]:
    found: dict[int, Any] = {}
    _find_containers(value, found)
    return list(found.values())


def _find_containers(value: PyTree, found: dict[int, Any]) -> None:
    """Collect what may change in place; of dataclasses and namespaces their dicts."""
    if isinstance(value, Cell | Owner) or id(value) in found:
        return
    if isinstance(value, list | set | deque):
        found[id(value)] = value
    elif isinstance(value, dict):
        found[id(value)] = value
        value = list(value.values())
    elif isinstance(value, types.SimpleNamespace | UserDict | UserList) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        held = getattr(value, "__dict__", None)
        if held is not None:
            _find_containers(held, found)
        return
    elif not isinstance(value, tuple):
        return
    for item in value:
        _find_containers(item, found)


_SAFE = frozenset({str, bytes, type(None), types.FunctionType, type})


def _is_safe(container: Any) -> bool:
    if isinstance(container, dict) and not all(type(key) is str for key in container):
        return False
    return all(
        type(item) in _SAFE
        or (isinstance(item, Owner) and type(item).__eq__ is object.__eq__)
        or (isinstance(item, Cell) and type(item).__eq__ is Cell.__eq__)
        for item in _items(container)
    )


def _items(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container


def refill(container: Any, items: Any) -> None:
    """Give a container other items."""
    container.clear()
    if isinstance(container, dict):
        dict.update(container, items)
    elif isinstance(container, set):
        container.update(items)
    else:
        container.extend(items)


def _ids(container: Any) -> list[int]:
    return list(map(id, chain.from_iterable(_views(container))))


def _views(container: Any) -> tuple[Any, ...]:
    if isinstance(container, dict):
        return dict.keys(container), dict.values(container)
    return (container,)


def _copy(container: Any) -> Any:
    for kind in (list, dict, set, deque):
        if isinstance(container, kind):
            return kind(container)
    raise TypeError(type(container))
