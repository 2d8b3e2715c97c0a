# SPDX-License-Identifier: Apache-2.0
"""The path of a Variable in an error: from the outermost Node that owns it.

A Variable knows nothing of its owners, which may change at any time. An error that
names one looks through the Nodes that are alive, so nothing is kept up to date for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from ..runtime import Cell, Owner, changes, living_owners, unrecorded
from ._parts import is_atom, parts

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
