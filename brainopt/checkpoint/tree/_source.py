# SPDX-License-Identifier: Apache-2.0
"""What a file holds, known before any of its arrays is read."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..io._read import Reader
from ._build import SavedNode, build, read_values


class Slot(NamedTuple):
    """The place of a leaf that is not read yet, and its shape."""

    index: int
    shape: tuple[int, ...] = ()

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)


class Source(Protocol):
    """A file as a tree of slots and saved nodes."""

    name: str
    tree: Any

    def read(self, slots: Iterable[Slot]) -> dict[Slot, Any]:
        """Read and verify the leaves of some slots."""
        ...


class FileSource:
    """A file of brainopt's own format."""

    def __init__(self, reader: Reader) -> None:
        self.name = reader.path
        self._reader = reader
        self.tree = build(
            reader, lambda index, record: Slot(index, record.shape), lambda node: node
        )

    def read(self, slots: Iterable[Slot]) -> dict[Slot, Any]:
        """Read and verify the leaves of some slots."""
        slots = list(slots)
        values = read_values(self._reader, [slot.index for slot in slots])
        return {slot: values[slot.index] for slot in slots}


class FlatSource:
    """A flat dict of arrays that another format gave, as one node without metadata."""

    def __init__(self, name: str, arrays: Mapping[str, Any]) -> None:
        self.name = name
        self._values = list(arrays.values())
        state = {
            path: Slot(index, np.shape(array))
            for index, (path, array) in enumerate(arrays.items())
        }
        self.tree = SavedNode({}, state)

    def read(self, slots: Iterable[Slot]) -> dict[Slot, Any]:
        """Give the leaves of some slots."""
        return {slot: self._values[slot.index] for slot in slots}


def slots_in(tree: Any) -> list[Slot]:
    """List the slots of a tree outside the states of its nodes."""
    if isinstance(tree, Slot):
        return [tree]
    if isinstance(tree, SavedNode):
        return slots_in(tree.meta)
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [slot for child in tree for slot in slots_in(child)]
    return []


def filled(tree: Any, values: Mapping[Slot, Any]) -> Any:
    """Put values in the place of slots, outside the states of nodes."""
    if isinstance(tree, Slot):
        return values[tree]
    if isinstance(tree, SavedNode):
        return SavedNode(filled(tree.meta, values), tree.state)
    if isinstance(tree, dict):
        return {key: filled(child, values) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(filled(child, values) for child in tree)
    return tree
