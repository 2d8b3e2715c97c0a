# SPDX-License-Identifier: Apache-2.0
"""What lies in a tree beside its nodes: plain values, which a restore returns."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..._typing import Model, PyTree
from ._build import SavedNode
from ._paths import ABSENT, dotted, leaves
from ._protocol import Stateful, is_stateful


def nodes_in(nodes: Model) -> Iterator[tuple[tuple, Stateful]]:
    """Yield each stateful object of a tree with its path."""
    found = leaves(nodes, is_stateful)
    return ((path, part) for path, part in found if is_stateful(part))


def saved_nodes(tree: PyTree) -> Iterator[tuple[tuple, SavedNode]]:
    """Yield each node of a file with its path."""
    found = leaves(tree)
    return ((path, part) for path, part in found if isinstance(part, SavedNode))


def plain_values(tree: PyTree) -> Any:
    """Return the plain values of a tree, without lists that hold a node."""
    if isinstance(tree, SavedNode):
        return ABSENT
    if isinstance(tree, dict):
        kept = {key: plain_values(child) for key, child in tree.items()}
        kept = {key: child for key, child in kept.items() if child is not ABSENT}
        return kept if kept or not tree else ABSENT
    if isinstance(tree, list | tuple) and any(True for _ in saved_nodes(tree)):
        return ABSENT
    return tree


def plain_paths(tree: PyTree) -> list[str]:
    """List every path in a plain tree, those of its containers too."""
    if tree is ABSENT:
        return []
    found = {path[:end] for path, _ in leaves(tree) for end in range(len(path) + 1)}
    return [dotted(path) for path in sorted(found, key=len)]


def with_defaults(nodes: Model, plain: Any) -> Any:
    """Return the plain values of a file, and the defaults of what it has not."""
    if not isinstance(nodes, Mapping):
        return {} if plain is ABSENT else plain
    if plain is not ABSENT and not isinstance(plain, dict):
        return plain
    found = {} if plain is ABSENT else dict(plain)
    for key, default in nodes.items():
        if isinstance(default, Mapping):
            merged = with_defaults(default, found.pop(key, ABSENT))
            if not default or not isinstance(merged, dict) or merged:
                found[key] = merged
        elif not any(True for _ in nodes_in(default)):
            found.setdefault(key, default)
    return found
