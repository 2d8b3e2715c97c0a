# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them, from the keys that lead to a record."""


def dotted(path: tuple) -> str:
    """Write a path as users do: ``net.layers.0.W``."""
    return ".".join(str(part) for part in path) or "the value itself"


def is_meta(path: tuple, nodes: set[tuple]) -> bool:
    """Whether a path lies in the metadata of one of the nodes at ``nodes``."""
    return any(path[:n] in nodes and path[n] == "meta" for n in range(len(path)))


def public(path: tuple, nodes: set[tuple]) -> str:
    """Write a path without the parts that only the file has within a node."""
    kept = [str(part) for n, part in enumerate(path) if path[:n] not in nodes]
    return ".".join(kept)
