# SPDX-License-Identifier: Apache-2.0
"""The paths of arrays in a pytree of JAX: the one place that makes them.

A path joins names, positions and keys with dots. Of what wraps one value, the box of
flax is no part of the path, and the path of a quantity ends in its unit: ``tau.ms``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from .._typing import PyTree
from ._units import is_quantity, is_quantity_type


def join(*parts: str) -> str:
    """Join the parts of a path that are not empty."""
    return ".".join(filter(None, parts))


def entries(value: PyTree) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` of each array in a value; one array has the path ""."""
    if isinstance(value, jax.Array):
        return [("", value)]
    return list(_tree_paths(value, lambda x: False))


def quantities(values: Mapping[str, PyTree]) -> dict[str, Any]:
    """Return the quantities in the values of Variables, by path without the unit."""
    return {
        join(path, tail): leaf
        for path, value in values.items()
        if not isinstance(value, jax.Array)
        for tail, leaf in _tree_paths(value, is_quantity)
        if is_quantity(leaf)
    }


def tree_paths(
    tree: PyTree, is_leaf: Callable[[PyTree], bool]
) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` of each leaf; a tree that is one is ``param``."""
    if isinstance(tree, jax.Array):
        return [("param", tree)]
    return [(path or "param", leaf) for path, leaf in _tree_paths(tree, is_leaf)]


def _tree_paths(
    tree: PyTree, is_leaf: Callable[[PyTree], bool]
) -> Iterator[tuple[str, Any]]:
    """Yield what `tree_paths` returns; that of a leaf alone has the path ""."""

    def is_wrapper(x: PyTree) -> bool:
        return x is not tree and _is_wrapper(type(x))

    # A wrapper has one value, and the key of that is no part of the path.
    own = _is_wrapper(type(tree)) and not is_leaf(tree)
    unit = str(tree.unit) if own and is_quantity(tree) else ""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda x: is_wrapper(x) or is_leaf(x)
    )
    for keys, part in flat:
        path = jax.tree_util.keystr(keys[own:], simple=True, separator=".")
        if is_wrapper(part) and not is_leaf(part):
            for below, leaf in _tree_paths(part, is_leaf):
                yield join(unit, path, below), leaf
        else:
            yield join(unit, path), part


def branches(tree: PyTree) -> list[tuple[str, Any]] | None:
    """Return ``(name, part)`` of what is next below a pytree; None for a leaf."""
    if isinstance(tree, dict):
        found = [
            (join(*map(str, key)) if isinstance(key, tuple) else str(key), part)
            for key, part in tree.items()
        ]
    elif tree is None or jax.tree_util.all_leaves([tree]):
        return None
    else:
        found = [
            (jax.tree_util.keystr(keys, simple=True), part)
            for keys, part in _next_below(tree)
        ]
    return [
        (name, _next_below(part)[0][1] if _is_box(type(part)) else part)
        for name, part in found
    ]


def _next_below(tree: PyTree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, lambda x: x is not tree)[0]


@functools.lru_cache(maxsize=1024)
def _is_wrapper(kind: type) -> bool:
    """Whether it is a class of boxes or of quantities."""
    return _is_box(kind) or is_quantity_type(kind)


# By the names of classes, as flax may not be imported.
@functools.lru_cache(maxsize=1024)
def _is_box(kind: type) -> bool:
    """Whether it is a Variable of nnx, or a box of linen, around one value."""
    return any(
        cls.__name__ in ("Variable", "AxisMetadata") and cls.__module__[:5] == "flax."
        for cls in kind.__mro__
    )
