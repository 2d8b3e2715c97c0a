# SPDX-License-Identifier: Apache-2.0
"""Names without a count through the whole process, from keys that have one.

brainpy calls the third Dense of a process ``Dense2``, whatever model it is in. In a
collector only the order tells the layers apart, so they are counted again within it.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .._typing import Foreign
from ._brainpy_roots import living_objects

_COUNTED = re.compile(r"(?P<kind>[A-Za-z_]\w*?)(?P<number>\d+)")
_CLASS = re.compile(r"<class '(?:[^']*\.)?(\w+)'>")
_BY_ID = re.compile(r"var\d{6,}")


def structural(keys: Sequence[str]) -> list[str]:
    """Return a path for each key of a collector, with no process-wide count in it."""
    numbers: dict[str, dict[str, int]] = {}
    paths = []
    for key in keys:
        node, dot, rest = key.partition(".")
        # Counted again within its class, in the order of the collector.
        kind = _counted_kind(node)
        if kind is not None:
            counts = numbers.setdefault(kind, {})
            node = f"{kind}{counts.setdefault(node, len(counts))}"
        elif _BY_ID.fullmatch(node):
            counts = numbers.setdefault("", {})
            node = f"var{counts.setdefault(node, len(counts))}"
        paths.append(undashed(f"{node}{dot}{rest}"))
    return paths


def counted(items: Mapping[Any, Any]) -> list[str]:
    """Return a name for each key of a dict, with no process-wide count in it.

    brainpy files the parts of a Sequential and what belongs to a projection under
    their unique names, and synapses that projections share under a description, with
    the numbers, addresses and random keys of all they were made with. Both become the
    classes that they name, and a count within the dict.
    """
    kinds = [(str(key), _kinds(str(key), item)) for key, item in items.items()]
    taken = {key for key, kind in kinds if not kind}
    names = []
    for key, kind in kinds:
        if kind:
            numbered = (f"{kind}{i}" for i in itertools.count())
            # A key that stays as it is may look like a counted one.
            key = next(name for name in numbered if name not in taken)
            taken.add(key)
        names.append(key)
    return names


def _kinds(key: str, item: Any) -> str:
    """Return the classes that a key names; nothing if it is to stay as it is."""
    described = _CLASS.findall(key)
    if described:
        return "_".join(described)
    owner = item if getattr(item, "name", None) == key else named(key)
    return _kind_of(owner, key) or ""


def undashed(key: str) -> str:
    """Return a key with dots where brainpy puts dashes: ``weights-0``."""
    return re.sub(r"(?<=\w)-(?=\w)", ".", key)


def _counted_kind(name: str) -> str | None:
    """Return the class that a name counts, if a living object was named by count."""
    match = _COUNTED.fullmatch(name)
    if match is None:
        return None
    owner = named(name)
    if owner is None:
        return match["kind"] if match["kind"][0].isupper() else None
    return _kind_of(owner, name)


def _kind_of(owner: Foreign, name: str) -> str | None:
    kind = type(owner).__name__
    return kind if re.fullmatch(rf"{kind}\d+", name) else None


def named(name: str) -> Any:
    """Return the living brainpy object of this unique name, or None."""
    naming = sys.modules.get("brainpy.math.object_transform.naming")
    held = getattr(naming, "_name2id", {}).get(name)
    if held is None or callable(held):
        return held and held()
    # brainpy 2.7 keeps a number of which only a living object can make sense.
    same = (obj for obj in living_objects() if id(obj) == held and obj.name == name)
    return next(same, None)
