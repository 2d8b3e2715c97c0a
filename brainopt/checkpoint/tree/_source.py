# SPDX-License-Identifier: Apache-2.0
"""The contents of a file, before any of its arrays is read.

A restore decides by names, shapes and metadata. So the tree of a file is built with a
`Slot` in the place of each array, and only the slots that were chosen are read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..._select import is_below
from ..._typing import PyTree, Values
from ..format._records import Record
from ..io._contents import Contents
from ._build import SavedNode, build
from ._paths import leaves, mapped
from ._values import Stored, read_values


@dataclass(slots=True, eq=False)
class Slot:
    """The place of a leaf that is not read yet, with what its record says of it."""

    index: int
    shape: tuple[int, ...] = ()
    kind: str = ""
    nbytes: int = 0

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Source(NamedTuple):
    """A file as a tree of slots and saved nodes, and the ways to read slots.

    Attributes:
        name: of the file.
        tree: its contents.
        read: gives the values of slots.
        parts: gives an array that is read in parts; None where there is no such way.
    """

    name: str
    tree: Any
    read: Callable[[list[Slot]], dict[Slot, Any]]
    parts: Callable[[Slot], Stored] | None = None


def own_source(reader: Contents) -> Source:
    """Give the tree of a file of brainopt's own format."""

    def read(slots: list[Slot]) -> dict[Slot, Any]:
        values = read_values(reader, [slot.index for slot in slots])
        return {slot: values[slot.index] for slot in slots}

    def slot(index: int, record: Record) -> Slot:
        return Slot(index, record.shape, record.kind, record.nbytes)

    tree = build(reader, slot, lambda node: node)
    return Source(reader.path, tree, read, lambda slot: Stored(reader, slot.index))


def flat_source(
    name: str, arrays: Values, metas: Mapping[str, dict[str, Any]]
) -> Source:
    """Give the tree of a file of another format, a flat dict of arrays."""
    values = list(arrays.values())
    slots = [Slot(index, np.shape(array)) for index, array in enumerate(values)]
    tree = with_nodes(dict(zip(arrays, slots, strict=True)), metas)
    return Source(
        name, tree, lambda slots: {slot: values[slot.index] for slot in slots}
    )


def with_nodes(
    flat: Mapping[str, Any], metas: Mapping[str, dict[str, Any]]
) -> dict[Any, Any] | SavedNode:
    """Give each node of a flat dict its part; the rest is one without metadata."""
    nodes = {path: SavedNode(meta, {}) for path, meta in metas.items()}
    rest = nodes.setdefault("", SavedNode({}, {}))
    for path, value in flat.items():
        owner = max((n for n in nodes if is_below(path, n)), key=len)
        nodes[owner].state[path[len(owner) + 1 :] if owner else path] = value
    if len(nodes) == 1:
        return rest
    return {path: node for path, node in nodes.items() if path or rest.state}


def slots_in(parts: Iterable[PyTree]) -> list[Slot]:
    """List the slots among the leaves of some trees; states of nodes stay closed."""
    found: list[Slot] = []
    for part in parts:
        for _, leaf in leaves(part):
            # Metadata are compared and so are read; the state may be gigabytes.
            if isinstance(leaf, SavedNode):
                found += slots_in([leaf.meta])
            elif isinstance(leaf, Slot):
                found.append(leaf)
    return found


def filled(tree: PyTree, values: Mapping[Slot, PyTree]) -> Any:
    """Replace slots by their values, except in the states of nodes."""

    def fill(leaf: PyTree) -> Any:
        if isinstance(leaf, SavedNode):
            return SavedNode(filled(leaf.meta, values), leaf.state)
        return values[leaf] if isinstance(leaf, Slot) else leaf

    return mapped(tree, fill)
