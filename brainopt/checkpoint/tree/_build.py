# SPDX-License-Identifier: Apache-2.0
"""The tree of a file built from its records, with the types that were saved."""

from collections.abc import Callable
from typing import Any

from ..format._records import CONTAINERS, Record
from ..io._contents import Contents


class SavedNode:
    """A stateful object as a file has it.

    Attributes:
        meta: the result of ``_checkpoint_meta`` when it was saved.
        state: its flat state, ``{attribute path: value}``.
    """

    def __init__(self, meta: dict[str, Any], state: dict[str, Any]) -> None:
        self.meta = meta
        self.state = state


def build(
    reader: Contents,
    leaf: Callable[[int, Record], object],
    node: Callable[[SavedNode], object],
) -> Any:
    """Build the tree of a file from its records.

    Args:
        reader: the file.
        leaf: makes the value of a record that is no container.
        node: makes the value of a saved node.
    """
    # Records are in preorder, and each container says how many children it has. The
    # stack holds the open containers with the keys and values so far; one that has all
    # of its children is closed, and becomes a value of the one below.
    root: list[Any] = []
    stack: list[tuple[Record, list, list]] = []
    top: list[Any] = root
    for index, (_, record) in enumerate(reader.walk()):
        if record.kind in CONTAINERS and record.length:
            top = []
            stack.append((record, [], top))
            keys = stack[-1][1]
        else:
            empty = record.kind in CONTAINERS
            value = _closed(record, [], [], node) if empty else leaf(index, record)
            top.append(value)
            keys = stack[-1][1] if stack else []
            keys.append(record.key)
        while stack and len(stack[-1][2]) == stack[-1][0].length:
            done, keys, values = stack.pop()
            value = _closed(done, keys, values, node)
            top = stack[-1][2] if stack else root
            top.append(value)
            if stack:
                stack[-1][1].append(done.key)
    return root[0]


def _closed(
    record: Record, keys: list, values: list, node: Callable[[SavedNode], Any]
) -> Any:
    if record.kind == "list":
        return values
    if record.kind == "tuple":
        return tuple(values)
    if record.kind == "node":
        return node(SavedNode(*values))
    return dict(zip(keys, values, strict=True))


def plain_value(record: Record) -> Any:
    """Return the value of a record that has no payload."""
    if record.kind == "int" and isinstance(record.value, bytes):
        return int.from_bytes(record.value, "little", signed=True)
    return record.value
