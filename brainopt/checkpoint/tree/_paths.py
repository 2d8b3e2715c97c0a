# SPDX-License-Identifier: Apache-2.0
"""Trees of dicts, lists and tuples: one traversal for all, and their paths.

**How it works.** Every tree of this wing, one to be saved, one being restored, or one
that was loaded, is walked by `leaves` and rebuilt by `mapped`. To both a container is a
mapping, a list or a tuple. Stateful objects, arrays and slots are leaves. An empty
container is a leaf too, or it would be lost.

While a tree is walked a path is a tuple of keys, which is exact: ``("a.b",)`` and
``("a", "b")`` differ. For users it is a dotted text, in which they do not; whoever goes
by dotted text refuses two leaves of one text (`flat_paths`).

**What must never happen.** A second walk with another idea of what a container is: a
value would be saved that no restore finds. A pairing of two trees by order.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ..._typing import PyTree
from ...errors import PathError, message

ABSENT = object()
"""Placeholder for an absent value, since None is a value."""


def children(tree: PyTree) -> list[tuple[Any, Any]] | None:
    """Return the keys and children of a container; None for a leaf."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    return None


def leaves(
    tree: PyTree,
    is_leaf: Callable[[PyTree], bool] = lambda part: False,
    path: tuple = (),
) -> Iterator[tuple[tuple, Any]]:
    """Yield each leaf with its path; an empty container is a leaf too.

    Args:
        tree: nested mappings, lists and tuples.
        is_leaf: whether a container is a leaf, and is not entered.
        path: the path of the tree itself.
    """
    inside = None if is_leaf(tree) else children(tree)
    if not inside:
        yield path, tree
        return
    for key, child in inside:
        yield from leaves(child, is_leaf, (*path, key))


def mapped(tree: PyTree, change: Callable[[PyTree], PyTree]) -> Any:
    """Rebuild a tree with other leaves; what becomes `ABSENT` is left out of dicts."""
    if isinstance(tree, Mapping):
        table = {key: mapped(child, change) for key, child in tree.items()}
        return {key: child for key, child in table.items() if child is not ABSENT}
    if isinstance(tree, list | tuple):
        return type(tree)([mapped(child, change) for child in tree])
    return change(tree)


def dotted(path: tuple) -> str:
    """Write a path of keys as users do."""
    return ".".join(map(str, path))


def under(root: str, path: str) -> str:
    """Join two dotted paths, of which either may be empty."""
    return f"{root}.{path}" if root and path else root or path


def flat_paths(tree: PyTree) -> dict[str, Any]:
    """Flatten nested dicts and sequences to ``{dotted path: leaf}``.

    Raises:
        PathError: two leaves have one dotted path.
    """
    flat: dict[str, Any] = {}
    twice = []
    for path, leaf in leaves(tree):
        if children(leaf) is not None:
            continue  # an empty container holds nothing
        name = dotted(path)
        if name in flat:
            twice.append(name)
        flat[name] = leaf
    if twice:
        raise PathError(message("Two values have one dotted path:", twice))
    return flat


def is_meta(path: tuple, nodes: Collection[tuple]) -> bool:
    """Whether a path lies in the metadata of one of the nodes at ``nodes``."""
    return any(path[:n] in nodes and path[n] == "meta" for n in range(len(path)))


def public(path: tuple, nodes: Collection[tuple]) -> str:
    """Write a path in a file as users do: ``net.layers.0.W``.

    The file keeps the state of a node under one more key, which users do not see.
    """
    if not nodes:
        return dotted(path)
    # "state" is left out right below a node only: a user's own key may have that name.
    kept = [
        str(part)
        for n, part in enumerate(path)
        if part != "state" or path[:n] not in nodes
    ]
    return ".".join(kept)
