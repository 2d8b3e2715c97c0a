# SPDX-License-Identifier: Apache-2.0
"""Equality by content, for the static parts of a tree structure."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import numpy as np

from .._compat import is_key_array
from .._typing import PyTree
from ._cell import Cell
from ._owner import Owner


def same(a: PyTree, b: PyTree) -> bool:
    """Whether two values are of one type and equal: arrays by their bytes.

    Variables, Nodes, and what cannot be compared are equal to themselves only. NaN
    equals NaN, since a structure that differs from itself would be compiled anew at
    every call.
    """
    if a is b:
        return True
    if isinstance(a, Cell | Owner):
        return False
    if isinstance(a, jax.Array) and isinstance(b, jax.Array):
        return _same_arrays(a, b)
    # 1, 1.0 and True are equal, but make different programs.
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        # As lists: code that loops over a dict depends on the order of its keys.
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return _same_arrays(a, b)
    try:
        return bool(a == b) or bool(a != a and b != b)
    except Exception:
        return False


def _same_arrays(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    if is_key_array(a):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    if a.dtype == object:  # its bytes are addresses
        return same(a.tolist(), b.tolist())
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


class Frozen:
    """A value as part of a tree structure: hashable, and equal by content."""

    __slots__ = ("value",)

    def __init__(self, value: PyTree):
        self.value = value

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Frozen) and same(self.value, other.value)

    def __hash__(self) -> int:
        # What is equal must have one hash, and an array has none. The keys of a dict
        # are cheap and differ mostly; everything else shares one number.
        return hash(tuple(self.value) if isinstance(self.value, dict) else Frozen)
