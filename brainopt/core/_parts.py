# SPDX-License-Identifier: Apache-2.0
"""The parts of plain containers, in which Nodes and Variables may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None)})


def is_atom(value: object) -> bool:
    """Whether nothing can be inside: a number, a string, an array."""
    return type(value) in _ATOMS or isinstance(
        value, jax.Array | np.ndarray | np.generic
    )


def parts(container: object) -> Iterable[tuple[Any, Any]] | None:
    """Return the ``(key, item)`` pairs of a container; None for anything else.

    Containers are dicts, lists, tuples (by name if they have names) and dataclasses.
    """
    if isinstance(container, dict):
        return container.items()
    if isinstance(container, list | tuple):
        names = getattr(type(container), "_fields", None)
        return (
            enumerate(container)
            if names is None
            else zip(names, container, strict=True)
        )
    if dataclasses.is_dataclass(container) and not isinstance(container, type):
        # A field that ``__init__`` does not set may be absent.
        return [
            (field.name, getattr(container, field.name))
            for field in dataclasses.fields(container)
            if hasattr(container, field.name)
        ]
    return None
