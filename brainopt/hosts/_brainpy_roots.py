# SPDX-License-Identifier: Apache-2.0
"""The model that a collector of brainpy came from.

``net.train_vars().unique()`` holds the Variables under names that count through the
whole process (``Dense7.W``), and nothing of ``net``. The layer that such a name means
is a living object, and so is the model that holds all these layers. It is looked for,
so that the Variables get the paths they have in it (``l1.W``).
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .._typing import Foreign, Model

Walk = Callable[[Any], Iterable[tuple[str, Any]]]


def paths_in_model(collector: Mapping[str, Foreign], walk: Walk) -> list[str] | None:
    """Return the path of each Variable in the innermost model that holds them all.

    Args:
        collector: brainpy's Variables by its own absolute names.
        walk: yields ``(path, state)`` below an object.

    Returns:
        The paths in the order of the collector; None if the keys are no such names,
        or if no living object holds all of their layers.
    """
    key = tuple((key, id(state)) for key, state in collector.items())
    # The ids in the key are valid only as long as their states exist.
    states, paths = _seen.get(key, ((), None))
    if not states or any(state() is None for state in states):
        _seen.pop(next(iter(_seen)) if len(_seen) > _KEPT else key, None)
        paths = _search(collector, walk)
        _seen[key] = [weakref.ref(state) for state in collector.values()], paths
    return paths


_KEPT = 64
_seen: dict[tuple, tuple[list[weakref.ref], list[str] | None]] = {}
"""The latest results, since a search looks at all objects of the process."""


def _search(collector: Mapping[str, Foreign], walk: Walk) -> list[str] | None:
    living = living_objects() if collector else []
    owners = _owners(collector, living)
    if not owners:
        return None
    holders: dict[int, list[Any]] = {}
    for obj in living:
        for item in _held(list(vars(obj).values())):
            holders.setdefault(id(item), []).append(obj)
    # What holds every layer is a model; of several, the one that holds no other.
    above = {id(obj): _above(obj, holders) for obj in owners}
    shared = set.intersection(*above.values())
    models = [obj for obj in living if id(obj) in shared]
    above |= {id(model): _above(model, holders) for model in models}
    innermost = [m for m in models if all(_is_inside(m, o, above) for o in models)]
    found = [_paths(collector, model, walk) for model in innermost or models]
    return min((paths for paths in found if paths), key=_depth, default=None)


def living_objects() -> list[Any]:
    """Return all living objects of brainpy, in the order they were named."""
    base = getattr(sys.modules.get("brainpy.math"), "BrainPyObject", None)
    objects = gc.get_objects() if base is not None else []
    living = [o for o in objects if base in type(o).__mro__ and "_name" in vars(o)]
    # The first one made comes first, as brainpy counts.
    return sorted(living, key=lambda obj: (len(obj.name), obj.name))


def _owners(collector: Mapping[str, Foreign], living: list[Any]) -> list[Any]:
    """Return the layers that the keys name; nothing if one of them names none."""
    named: dict[str, list[Any]] = {}
    for obj in living:
        named.setdefault(obj.name, []).append(obj)
    owners: dict[int, Any] = {}
    for key, state in collector.items():
        for obj in named.get(str(key).partition(".")[0], ()):
            if obj.vars(level=0).get(key) is state:
                owners[id(obj)] = obj
                break
        else:
            return []
    return list(owners.values())


def _held(items: list[Any]) -> Iterator[Any]:
    """Yield the objects in attributes, lists, tuples and dicts."""
    seen = set()
    while items:
        item = items.pop()
        if isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            items += item.values() if isinstance(item, dict) else item
        elif hasattr(type(item), "register_implicit_vars"):
            yield item


def _above(obj: Model, holders: dict[int, list[Any]]) -> set[int]:
    """Return what holds an object, and itself, by id."""
    found, waiting = {id(obj)}, [obj]
    while waiting:
        for holder in holders.get(id(waiting.pop()), ()):
            if id(holder) not in found:
                found.add(id(holder))
                waiting.append(holder)
    return found


def _is_inside(model: Model, other: Any, above: dict[int, set[int]]) -> bool:
    """Whether ``model`` does not hold ``other``, or each of them holds the other."""
    return id(model) not in above[id(other)] or id(other) in above[id(model)]


def _paths(collector: Mapping[str, Foreign], model: Model, walk: Walk) -> list[str]:
    found: dict[int, str] = {}
    for path, state in walk(model):
        found.setdefault(id(state), path)
    paths = [found.get(id(state), "") for state in collector.values()]
    return paths if all(paths) else []


def _depth(paths: list[str]) -> tuple[int, int]:
    depths = [path.count(".") for path in paths]
    return max(depths), sum(depths)
