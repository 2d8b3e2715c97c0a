# SPDX-License-Identifier: Apache-2.0
"""What an object is called: the display name of a Node, and the path of a Variable.

A display name is unique among the living objects of this process. A Variable has none
and knows nothing of its owners, which may change at any time: an error that names one
looks through the Nodes that are alive, so nothing is kept up to date for it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

from ..errors import UniqueNameError, message
from ..runtime import Cell, Owner, changes, living_owners, unrecorded
from ._parts import is_atom, parts

_lock = threading.Lock()
_owners: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_counts: dict[str, int] = {}


def claim(owner: object, name: str | None = None, type_: str | None = None) -> str:
    """Return a unique name for ``owner``: ``name``, or its type and a count.

    Raises:
        UniqueNameError: ``name`` is no identifier, or another living object has it.
    """
    with _lock:
        if name is None:
            kind = type_ or type(owner).__name__
            # A user may have given such a name by hand; the count goes past it.
            while True:
                count = _counts.get(kind, 0)
                _counts[kind] = count + 1
                name = f"{kind}{count}"
                if name not in _owners:
                    break
        elif not (isinstance(name, str) and name.isidentifier()):
            raise UniqueNameError(message(f"{name!r} is not a Python identifier."))
        elif _owners.get(name, owner) is not owner:
            raise UniqueNameError(
                message(
                    f"The name {name!r} belongs to another living object:",
                    [f"a {type(_owners[name]).__name__}"],
                    "choose another name, or leave it out: names are for display; "
                    "state dicts and files use attribute paths.",
                )
            )
        _owners[name] = owner
        return name


def release(owner: object, name: str) -> None:
    """Give a name of ``owner`` up, for others to take."""
    with _lock:
        if _owners.get(name) is owner:
            del _owners[name]


_paths: dict[int, tuple[weakref.ref[Cell], str]] = {}
_counted = -1


def path_of(variable: Cell) -> str | None:
    """Return ``Net.layers.1.h``, or None where no Node has the Variable."""
    global _counted
    held = _paths.get(id(variable))
    if _counted != changes.count or held is None or held[0]() is not variable:
        with unrecorded():
            found = _search()
        _paths.clear()
        _paths.update((id(v), (weakref.ref(v), path)) for v, path in found.items())
        _counted = changes.count
        held = _paths.get(id(variable))
    return held and held[1]


def _search() -> dict[Cell, str]:
    # An optimizer looks at the Variables of others; it is no way to them.
    owners = [owner for owner in living_owners() if owner._resets]
    owned = {id(owner): list(_owned(owner)) for owner in owners}
    inner = {
        id(x) for items in owned.values() for _, x in items if isinstance(x, Owner)
    }
    # Breadth first from the outermost Nodes; those that only refer to each other last.
    waiting = sorted(owners, key=lambda owner: id(owner) in inner)
    paths = {id(owner): type(owner).__name__ for owner in waiting}
    done: set[int] = set()
    found: dict[Cell, str] = {}
    for root in waiting:
        level = [root] if id(root) not in done else []
        while level:
            done.update(map(id, level))
            below = []
            for owner in level:
                for key, item in owned.get(id(owner), ()):
                    path = f"{paths[id(owner)]}.{key}"
                    if isinstance(item, Cell):
                        found.setdefault(item, path)
                    elif id(item) not in done and id(item) in owned:
                        done.add(id(item))
                        paths[id(item)] = path
                        below.append(item)
            level = below
    return found


def _owned(owner: Owner) -> Iterator[tuple[str, Any]]:
    for key, value in owner._owned_attributes():
        yield from _inside(key, value, ())


def _inside(key: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Cell | Owner):
        yield key, value
    elif not is_atom(value) and id(value) not in above:
        for name, item in list(parts(value) or ()):
            inner = f"{key}.{name}" if key else str(name)
            yield from _inside(inner, item, (*above, id(value)))
