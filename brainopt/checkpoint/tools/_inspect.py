# SPDX-License-Identifier: Apache-2.0
"""The contents of a checkpoint, listed without reading an array."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._display import table_html
from ...errors import printable
from ..format._records import ARRAYS, CONTAINERS
from ..io._contents import Contents
from ..io._input import Readable, name_of, opened
from ..io._sharded import open_checkpoint
from ..tree._build import SavedNode, build, plain_value

MANY = 12
"""Plain values of one list that are shown one by one; more are folded."""


@dataclass(frozen=True)
class Entry:
    """One value of a checkpoint.

    Attributes:
        path: its keys, joined by dots.
        kind: ``array``, ``scalar``, ``key``, ``int``, ``str``, …
        dtype: the element type of an array, the kind of a PRNG key, or "".
        shape: the shape of an array; of a PRNG key without its data axis.
        nbytes: the bytes of its payload.
        offset: where its payload begins in the file; 0 if it has none.
        value: a short plain value itself, else None.
    """

    path: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    nbytes: int = 0
    offset: int = 0
    value: Any = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Inspection:
    """The contents of a checkpoint.

    Attributes:
        path: the file.
        version: the version of its format; 0 for a format of others.
        library: the library that wrote it.
        nbytes: the length of the file.
        nodes: by path of each saved node, the metadata that was saved with it.
        entries: every value in the file, in order.
    """

    path: str
    version: int
    library: str
    nbytes: int
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def __str__(self) -> str:
        """Lay out the entries as a table; a long history is one line."""
        lines, rows = self._above(), list(self._rows())
        width = max((len(path) for path, *_ in rows), default=0)
        for path, kind, content, nbytes in rows:
            lines.append(f"  {path:{width}}  {kind:8} {content:24} {nbytes:>14}")
        return "\n".join(map(printable, lines))

    def _repr_html_(self) -> str:
        rows = [tuple(map(printable, row)) for row in self._rows()]
        above = [printable(line) for line in self._above()]
        return table_html(("path", "kind", "value", "bytes"), rows, above=above)

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        def place(entry: Entry) -> tuple[str, bool]:
            is_plain = not entry.dtype and not entry.nbytes
            return (list_of(entry.path) if is_plain else entry.path), is_plain

        for (above, is_plain), group in itertools.groupby(self.entries, place):
            entries = list(group)
            if is_plain and len(entries) > MANY:
                yield f"{above}.…".lstrip("."), "", f"{len(entries)} plain values", "0"
                continue
            for entry in entries:
                yield entry.path, entry.kind, content_of(entry), f"{entry.nbytes:,}"

    def _above(self) -> list[str]:
        lines = [
            f"{self.path}: format {self.version}, {self.library}, {self.nbytes:,} bytes"
        ]
        for path, meta in self.nodes.items():
            said = ", ".join(f"{key}={value!r}" for key, value in meta.items())
            lines.append(f"  {path or '.'}: {said}")
        return lines


def inspect_file(path: Readable) -> Inspection:
    """Read header and manifest, and no array."""
    with open_checkpoint(path) as reader:
        entries: list[Entry] = []
        inside: list[str] = []
        for name, meta, record in reader.named():
            if record.kind == "node":
                inside.append(name)
            elif record.kind not in CONTAINERS and not meta:
                # The last axis of key data is the state of one key.
                shape = record.shape[:-1] if record.kind == "key" else record.shape
                plain = None if record.has_payload else plain_value(record)
                entries.append(
                    Entry(
                        name,
                        record.kind,
                        record.dtype if record.kind in ARRAYS else "",
                        shape,
                        record.nbytes,
                        record.offset,
                        plain,
                    )
                )
        metas = _metas(reader) if inside else []
        nodes = dict(zip(inside, metas, strict=True))
        return Inspection(
            reader.path,
            reader.version,
            str(reader.metadata.get("library", "an unknown library"))[:100],
            reader.size,
            nodes,
            entries,
        )


def inspect_flat(
    path: Readable,
    suffix: str,
    arrays: Mapping[str, np.ndarray],
    metas: dict[str, dict[str, Any]],
) -> Inspection:
    """Describe the flat arrays that a file of another format gave."""
    entries = [
        Entry(name, "array", str(array.dtype), array.shape, array.nbytes)
        for name, array in arrays.items()
    ]
    with opened(path) as file:
        size = file.size
    return Inspection(name_of(path), 0, suffix, size, metas, entries)


def list_of(path: str) -> str:
    """Return the path of the outermost list that holds a value, or of its parent."""
    parts = path.split(".")
    places = (i for i, part in enumerate(parts) if i and part.isdecimal())
    return ".".join(parts[: next(places, len(parts) - 1)])


def content_of(entry: Entry) -> str:
    """Return the dtype and shape of an array, or the shortened value of a leaf."""
    what = f"{entry.dtype} {entry.shape}" if entry.dtype else ""
    return what or _shown(entry.value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"({value.bit_length()} bits)"  # Python refuses to print huge ones
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _metas(reader: Contents) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def keep(node: SavedNode) -> None:
        found.append(node.meta)

    # `build` gives nodes in the order of their ends. A node holds no other, so this is
    # the order of their beginnings, too. Payload becomes None: nothing is read.
    build(
        reader,
        lambda _, record: None if record.has_payload else plain_value(record),
        keep,
    )
    return found
