# SPDX-License-Identifier: Apache-2.0
"""Outlines: the contents of a Node, a collector or a container, as a tree of lines.

Nothing is computed and no read is recorded, so it may be shown inside a transform.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import numpy as np

from .._compat import is_key_array
from .._display import Branch, size_text
from .._typing import Model
from ..runtime import Expired, Owner
from . import _walk
from ._parts import is_atom, parts
from ._paths import entries
from ._variable import TrainVar, Variable
from ._walk import children, foreign_vars

_short = reprlib.Repr()
_short.maxother = _short.maxstring = 60


def outline(root: Model) -> Branch:
    """Return the tree of what ``root`` holds: kinds, shapes, dtypes and bytes."""
    return Branch(_title(root), tuple(_Outline().inside(root, "")))


def contents(node: Model) -> dict[str, Any]:
    """Return what a Node is shown to hold, by attribute."""
    return {
        str(key): value
        for key, value in _items(node)
        if not str(key).startswith("_")
        or isinstance(value, Variable | Owner)
        or _holds(value)
    }


def one_line(variable: Variable) -> str:
    """Return kind, shape, dtype and bytes of a Variable."""
    # Not by `Variable.value`, which would count as a read of the function being traced.
    value = variable._committed()
    if isinstance(value, Expired):
        return f"{type(variable).__name__}, ended with its trace"
    found = entries(value)
    said = ", ".join(f"{path}: {_array(x)}" if path else _array(x) for path, x in found)
    return f"{type(variable).__name__} {said}, {size_text(_nbytes(value))}"


class _Outline:
    """One walk, which shows an object at its first path and refers to that later."""

    def __init__(self):
        self.first: dict[int, str] = {}

    def inside(self, owner: Model, path: str) -> Iterator[Branch]:
        self.first[id(owner)] = path
        for key, value in _items(owner):
            branch = self.branch(str(key), value, _walk.join(path, str(key)))
            if branch is not None:
                yield branch

    def branch(self, key: str, value: Model, path: str) -> Branch | None:
        if id(value) in self.first and not is_atom(value):
            return Branch(f"{key}: the same as {self.first[id(value)] or 'the root'}")
        if isinstance(value, Variable):
            self.first[id(value)] = path
            return Branch(f"{key}: {one_line(value)}")
        if isinstance(value, Owner) and value._fits_a_line:
            self.first[id(value)] = path
            return Branch(f"{key}: {value!r}")
        if isinstance(value, Owner) or _holds(value):
            return Branch(f"{key}: {_kind(value)}", tuple(self.inside(value, path)))
        return None if key.startswith("_") else Branch(f"{key} = {_constant(value)}")


def _items(owner: Model) -> Iterator[tuple[Any, Any]]:
    if isinstance(owner, Owner):
        for key, value in owner._owned_attributes():
            yield from [(key, value)] if key else value.items()
    elif (found := parts(owner)) is not None:
        yield from found
    else:
        yield from (foreign_vars(owner) or {}).items()


def _holds(value: Model) -> bool:
    """Whether Variables or Nodes are inside a container or a model."""
    return bool(children(value))


def _title(root: Model) -> str:
    variables = list(_walk.collect_vars(root).unique().values())
    trained = [v for v in variables if isinstance(v, TrainVar)]
    sizes = [(_size(v._committed()), _nbytes(v._committed())) for v in variables]
    # With a pair of zeros, so that there are two columns without any Variable.
    elements, nbytes = (sum(column) for column in zip((0, 0), *sizes, strict=True))
    return (
        f"{_kind(root)}: {len(variables)} Variable{'s' * (len(variables) != 1)}, "
        f"{sum(_size(v._committed()) for v in trained):,} of {elements:,} elements "
        f"trained, {size_text(nbytes)}"
    )


def _kind(value: Model) -> str:
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, dict | list | tuple) else name


def _array(value: Model) -> str:
    if not hasattr(value, "dtype"):
        return _short.repr(value)
    return f"{tuple(value.shape)} {value.dtype}"


def _constant(value: Model) -> str:
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"array {_array(value)}, {size_text(_nbytes(value))}"
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value) if isinstance(value, jax.core.Tracer) else f"{value}"
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return _short.repr(value)


def _size(value: Model) -> int:
    return sum(math.prod(x.shape) for _, x in entries(value) if hasattr(x, "shape"))


def _nbytes(value: Model) -> int:
    return sum(
        math.prod(x.shape) * x.dtype.itemsize
        for _, x in entries(value)
        if hasattr(x, "dtype") and not (is_key_array(x) and not hasattr(x, "nbytes"))
    )
