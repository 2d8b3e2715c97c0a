# SPDX-License-Identifier: Apache-2.0
"""The parts of plain containers, in which Nodes and Variables may be."""

from __future__ import annotations

import copy
import dataclasses
import types
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from .._typing import Model

_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None)})
_MAPPINGS = dict | UserDict | ChainMap | types.MappingProxyType
_SEQUENCES = list | tuple | deque | UserList
_MUTABLE = dict | UserDict | list | deque | UserList


def is_atom(value: object) -> bool:
    """Whether nothing can be inside: a number, a string, an array of numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype != object
    return type(value) in _ATOMS or isinstance(value, jax.Array | np.generic)


def parts(container: object) -> Iterable[tuple[Any, Any]] | None:
    """Return the ``(key, item)`` pairs of a container; None for anything else.

    Containers are mappings, lists, deques, tuples (by name if they have names),
    dataclasses, namespaces, and arrays of objects (by index, as in ``0.1``).
    """
    if isinstance(container, _MAPPINGS):
        return container.items()
    if isinstance(container, _SEQUENCES):
        names = getattr(type(container), "_fields", None)
        return (
            enumerate(container)
            if names is None
            else zip(names, container, strict=True)
        )
    if isinstance(container, types.SimpleNamespace):
        return vars(container).items()
    if isinstance(container, np.ndarray):
        if container.dtype != object:
            return None
        indices = map(list, np.ndindex(container.shape))
        keys = (".".join(map(str, index)) for index in indices)
        return zip(keys, container.ravel(), strict=True)
    if dataclasses.is_dataclass(container) and not isinstance(container, type):
        # A field that ``__init__`` does not set may be absent.
        return [
            (field.name, getattr(container, field.name))
            for field in dataclasses.fields(container)
            if hasattr(container, field.name)
        ]
    return None


def is_mutable(container: object) -> bool:
    """Whether the items of a container may change in place."""
    return isinstance(container, _MUTABLE)


def emptied(container: Model) -> Any:
    """Return what `filled` needs: an empty copy with all settings, or the class."""
    if isinstance(container, _MUTABLE):
        empty = copy.copy(container)
        empty.clear()
        return empty
    if isinstance(container, np.ndarray):
        return np.full(container.shape, None, object)
    return type(container)


def filled(empty: Model, keys: Sequence[Any], items: Sequence[Any]) -> Any:
    """Return a new container with these items.

    Args:
        empty: see `emptied`.
        keys: those of `parts`.
        items: one for each key.
    """
    new: Any
    if isinstance(empty, dict | UserDict):
        new = copy.copy(empty)
        new.update(zip(keys, items, strict=True))
        return new
    if isinstance(empty, _MUTABLE):
        new = copy.copy(empty)
        new.extend(items)
        return new
    if isinstance(empty, np.ndarray):
        new = empty.copy()
        for index, item in zip(np.ndindex(new.shape), items, strict=True):
            new[index] = item
        return new
    if hasattr(empty, "_fields"):
        return empty(*items)
    if issubclass(empty, tuple):
        return empty(items)
    if issubclass(empty, ChainMap | types.MappingProxyType):
        return empty(dict(zip(keys, items, strict=True)))
    new = empty.__new__(empty)
    for key, item in zip(keys, items, strict=True):
        # A frozen dataclass has a ``__setattr__`` that refuses.
        object.__setattr__(new, key, item)
    return new
