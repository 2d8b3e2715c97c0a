# SPDX-License-Identifier: Apache-2.0
"""Constants: the arrays of a model that are no Variables.

Fixed recurrent weights, masks and connections are part of what a model computes, and
no state dict has them. So tables list them, and a checkpoint keeps a checksum of each:
a model that was built from another seed is another model.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .._typing import Foreign, Model
from ..runtime import Owner
from . import _host, _walk
from ._parts import is_atom, parts
from ._variable import Variable


def constants(root: Model) -> dict[str, Any]:
    """Return the arrays below ``root`` that are no Variables, by path, each once."""
    return arrays_below(root, is_constant)


def arrays_below(root: Model, test: Callable[[Any], bool]) -> dict[str, Any]:
    """Return what is in plain attributes below ``root`` and passes a test, by path."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for path, node in _walk.walk_nodes(root):
        # An optimizer is no part of what the model computes.
        if isinstance(node, Owner) and not node._resets:
            continue
        for key, value in _own(node, test):
            if id(value) not in seen:
                seen.add(id(value))
                found.setdefault(_walk.join(path, key), value)
    return found


def is_constant(value: Model) -> bool:
    """Whether it is an array that a model computes with.

    A single number is a setting, and unsigned ints may be a random key.
    """
    if not isinstance(value, jax.Array | np.ndarray) or not value.ndim:
        return False
    if isinstance(value, jax.core.Tracer) or jnp.issubdtype(
        value.dtype, jnp.unsignedinteger
    ):
        return False
    return jnp.issubdtype(value.dtype, np.number) or value.dtype == bool


def fingerprints(root: Model) -> dict[str, dict[str, str]]:
    """Return ``{"constants": {path: shape, dtype and checksum}}``, if there are any."""
    found = {path: _fingerprint(value) for path, value in constants(root).items()}
    return {"constants": found} if found else {}


_VISITED = (Variable, Owner)  # the walk comes to each by itself


def _own(node: Model, test: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Owner):
        yield from _inside(node, "", (), test)
        return
    for key, value in node._owned_attributes():
        yield from _inside(value, key, (), test)


def _inside(
    value: Model, key: str, above: tuple[int, ...], test: Callable[[Any], bool]
) -> Iterator[tuple[str, Any]]:
    if test(value):
        yield key, value
    elif isinstance(value, _VISITED) or is_atom(value) or id(value) in above:
        return
    elif (foreign := _foreign(value)) is not None:
        for path, array in foreign.items():
            if test(array):
                yield _walk.join(key, path), array
    else:
        above = (*above, id(value))
        for name, item in parts(value) or ():
            if not isinstance(item, _VISITED):
                yield from _inside(item, _walk.join(key, str(name)), above, test)


def _foreign(value: Foreign) -> dict[str, Any] | None:
    if isinstance(value, list | tuple | dict):
        return None
    return next((host.constants(value) for host in _host.hosts_of(value)), None)


_known: dict[int, tuple[weakref.ref, str]] = {}
"""The fingerprints of arrays of JAX, which never change, by id."""


def _fingerprint(value: Any) -> str:
    held = _known.get(id(value))
    if held is not None and held[0]() is value:
        return held[1]
    text = f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{text} {_checksum(value)}"
    if not value.is_deleted() and value.is_fully_addressable:
        text = f"{text} {_checksum(np.asarray(value))}"
        key = id(value)
        _known[key] = weakref.ref(value, lambda _: _known.pop(key, None)), text
    return text


def _checksum(value: np.ndarray) -> str:
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return f"{zlib.crc32(data.data):08x}"
