# SPDX-License-Identifier: Apache-2.0
"""Variables and Nodes that a node owns without an attribute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._typing import Model
from ..errors import PathError, message


def added(
    held: Mapping[str, Model],
    kind: type | tuple[type, ...],
    stem: str,
    items: Iterable[Model],
    named: Mapping[str, Model],
) -> dict[str, Any]:
    """Return the held objects by key, with more added.

    Args:
        held: by key.
        kind: that all must be.
        stem: of the keys of those that have none.
        items: objects, or lists or dicts of them.
        named: objects by key.

    Raises:
        TypeError: an object is of another kind.
        PathError: two objects have one key.
    """
    held = dict(held)
    for key, item in _flatten(items, named):
        if not isinstance(item, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            names = " or ".join(one.__name__ for one in kinds)
            raise TypeError(
                message(f"{key or 'item'}: a {type(item).__name__} is no {names}.")
            )
        if key is None:
            # Registered before, it keeps its key: calling a method twice adds nothing.
            if any(item is other for other in held.values()):
                continue
            free = (f"{stem}{i}" for i in range(len(held) + 1))
            key = next(name for name in free if name not in held)
        if held.get(key, item) is not item:
            raise PathError(message("Two different objects under one path:", [key]))
        held[key] = item
    return held


def _flatten(
    items: Iterable[Model], named: Mapping[str, Model]
) -> Iterator[tuple[str | None, Any]]:
    for item in items:
        if isinstance(item, dict):
            yield from item.items()
        elif isinstance(item, list | tuple):
            yield from ((None, part) for part in item)
        else:
            yield None, item
    yield from named.items()
