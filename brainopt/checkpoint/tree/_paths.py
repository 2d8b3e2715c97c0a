# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them, from the keys that lead to a record."""

from collections.abc import Collection, Mapping
from typing import Any

from ...errors import PathError, message


def is_meta(path: tuple, nodes: Collection[tuple]) -> bool:
    """Whether a path lies in the metadata of one of the nodes at ``nodes``."""
    return any(path[:n] in nodes and path[n] == "meta" for n in range(len(path)))


def public(path: tuple, nodes: Collection[tuple]) -> str:
    """Write a path as users do: ``net.layers.0.W``.

    The file keeps the state of a node under one more key, which users do not see.
    """
    if not nodes:
        return ".".join(map(str, path))
    kept = [
        str(part)
        for n, part in enumerate(path)
        if part != "state" or path[:n] not in nodes
    ]
    return ".".join(kept)


def flat_paths(tree: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Flatten nested dicts and sequences to ``{dotted path: leaf}``.

    Raises:
        PathError: two leaves have one dotted path.
    """
    if isinstance(tree, Mapping):
        children = tree.items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    else:
        return {".".join(path): tree}
    flat: dict[str, Any] = {}
    for key, child in children:
        below = flat_paths(child, (*path, str(key)))
        if twice := sorted(flat.keys() & below.keys()):
            raise PathError(message("Two values have one dotted path:", twice))
        flat |= below
    return flat
