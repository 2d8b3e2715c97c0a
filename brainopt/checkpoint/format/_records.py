# SPDX-License-Identifier: Apache-2.0
"""The records of a manifest: one small MessagePack array for each part of the tree.

**How it works.** A tree is written in preorder: a container with the number of its
children, then the children. A record is framed by its length, so that a reader never
hands more than 16 KiB to the parser, and is followed by the table of its checksums if
it has payload.

A reader is strict, and calls every other form `Malformed`. The sha256 of the footer
finds accidents, but whoever makes a file on purpose can make a sha256 too.

**What must never happen.** A name from a file that reaches a parser of dtypes or an
import. A count or shape that is used before it was compared with the bytes that are
there.
"""

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import msgpack

from . import _layout
from ._dtypes import ITEMSIZE

CONTAINERS = ("dict", "list", "tuple", "node")
ARRAYS = ("array", "scalar", "key")
LONG = ("long str", "long bytes", "long int")
KEY_IMPLS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}

_FRAME = struct.Struct(">BI")
_INLINE = {"bool": (bool,), "int": (int, bytes), "float": (float,), "str": (str,)}
_INLINE["bytes"] = (bytes,)
_KEY_TYPES = (str, int, float, bool, bytes, type(None))


class Malformed(Exception):
    """Bytes that no brainopt wrote; the reader adds the name of the file."""


class Record(NamedTuple):
    """One part of the tree: a container, a plain value, or an array.

    ``key`` is the name under which its parent dict holds it. ``nbytes``, ``offset``
    and ``checksums`` belong to its payload, if it has any. An array that is
    ``spread`` has none: its pieces are in the other files of a folder.
    """

    key: Any
    kind: str
    length: int = 0
    value: Any = None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    nbytes: int = 0
    offset: int = 0
    digest: bytes = b""
    spread: bool = False
    checksums: bytes = b""

    @property
    def has_payload(self) -> bool:
        """Whether a table of checksums follows the record in the manifest."""
        return (self.kind in ARRAYS or self.kind in LONG) and not self.spread


def pack(record: Record) -> bytes:
    """Write one record with its frame, and the table of its checksums."""
    kind = record.kind
    fields: list[Any] = [record.key, kind]
    if kind in CONTAINERS:
        fields.append(record.length)
    elif kind in ARRAYS:
        fields += [record.dtype, list(record.shape)]
        fields += [] if record.spread else [record.offset]
    elif kind in LONG:
        fields += [record.nbytes, record.offset]
    elif kind == "complex":
        fields += [record.value.real, record.value.imag]
    elif kind != "none":
        fields.append(record.value)
    if record.digest:
        fields.append(record.digest)
    body = framed(fields)
    if record.has_payload:
        body += b"\xc6" + len(record.checksums).to_bytes(4, "big") + record.checksums
    return body


def framed(value: object) -> bytes:
    """Pack an object, with its length before it as a MessagePack uint32."""
    body = cast(bytes, msgpack.packb(value, use_bin_type=True))
    return _FRAME.pack(0xCE, len(body)) + body


def unpack(manifest: memoryview, limit: int) -> tuple[dict, list[Record]]:
    """Read a manifest strictly.

    Args:
        manifest: the bytes, already proven by the sha256 of the footer.
        limit: how many payload bytes the file can hold.

    Raises:
        Malformed: the bytes keep to the checksum but not to the grammar.
    """
    frames = _Frames(manifest)
    metadata = frames.object()
    if not isinstance(metadata, dict) or not all(type(k) is str for k in metadata):
        raise Malformed("the manifest does not begin with a map of names")
    records, position, plain = [], _layout.HEADER_BYTES, 0
    while frames.position < frames.size:
        # Each record that costs memory must be paid for by bytes of the file: 64 of
        # them for an array (its alignment), or a place among the plain ones.
        record = _record(frames.object(), limit)
        plain += not (record.has_payload and record.nbytes)
        if plain > _layout.MAX_PLAIN + limit // _layout.ALIGN:
            raise Malformed("it has too many records without payload")
        if record.has_payload:
            # Computed, and the offset in the file compared with it: arrays cannot
            # overlap, and none can lie outside the payload.
            first = _layout.start_of(position) if record.nbytes else 0
            if record.offset != first:
                raise Malformed(f"payload of {record.key!r} is not where it belongs")
            position = _layout.end_of(position, record.nbytes)
            if position > limit:
                raise Malformed("more payload is declared than the file holds")
            count = _layout.block_count(record.nbytes)
            checksums = frames.table(4 * count)
            if checksums:
                # The last field; `_replace` takes five times as long.
                record = Record(*record[:-1], checksums)
        records.append(record)
    # No byte between the last array and the manifest, where none would be checked.
    if position != limit:
        raise Malformed("the payload does not end where the manifest begins")
    if frames.text > _layout.max_manifest_text(len(records) - plain):
        raise Malformed("the records of the manifest are too long")
    if sum(r.kind == "key" for r in records) > _layout.MAX_PRNG_KEYS:
        raise Malformed(f"more than {_layout.MAX_PRNG_KEYS} PRNG keys")
    if sum(r.nbytes for r in records if r.kind == "long str") > _layout.MAX_TEXT:
        raise Malformed("the texts are too long")
    return metadata, records


class _Frames:
    """A walk over the framed objects of a manifest."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.size = data, len(data)
        self.position = 0
        self.text = 0

    def object(self) -> Any:
        """Parse the next framed object, which is short."""
        body = self._take(0xCE)
        self.text += len(body)
        if len(body) > _layout.MAX_RECORD_BYTES:
            raise Malformed("a record is too long")
        try:
            return msgpack.unpackb(
                body, raw=False, strict_map_key=True, max_ext_len=0, use_list=True
            )
        except (
            ValueError,
            TypeError,
            msgpack.UnpackException,
            RecursionError,
        ) as error:
            raise Malformed(f"a record is not MessagePack ({error})") from None

    def table(self, nbytes: int) -> bytes:
        """Take the checksums that follow a record."""
        body = self._take(0xC6)
        if len(body) != nbytes:
            raise Malformed("a table of checksums has the wrong length")
        return bytes(body)

    def _take(self, marker: int) -> memoryview:
        start = self.position + _FRAME.size
        if start > self.size:
            raise Malformed("the manifest ends within a record")
        found, length = _FRAME.unpack_from(self.data, self.position)
        if found != marker or start + length > self.size:
            raise Malformed("the manifest ends within a record")
        self.position = start + length
        return self.data[start : self.position]


def _record(fields: Any, limit: int) -> Record:
    if type(fields) is not list or len(fields) < 2:
        raise Malformed("a record is not an array of key, kind, …")
    # Exact types throughout: to `isinstance` True is an int.
    key, kind, *rest = fields
    if type(key) not in _KEY_TYPES or key != key:
        raise Malformed("the key of a record is of no allowed type")
    for text in (key, *rest[:1]):
        if _length(text) > _layout.MAX_INLINE:
            raise Malformed("a key or a text is too long for its record")
    digest = b""
    if kind in ARRAYS + LONG and len(rest) == (4 if kind in ARRAYS else 3):
        digest = rest.pop()
        if type(digest) is not bytes or len(digest) != _layout.DIGEST_BYTES:
            raise Malformed(f"{key!r} has an impossible digest")
    types = [type(item) for item in rest]
    if kind in CONTAINERS and types == [int] and 0 <= rest[0] < 1 << 32:
        return Record(key, kind, length=rest[0])
    if kind in ARRAYS and types == [str, list, int]:
        return _array(key, kind, *rest, limit=limit, digest=digest)
    if kind in ("array", "key") and types == [str, list] and not digest:
        name, shape = rest
        # Its bytes are in other files, so this file cannot limit them.
        spread = _array(key, kind, name, shape, 0, limit=1 << 63, digest=b"")
        return spread._replace(spread=True)
    if kind in LONG and types == [int, int] and 0 <= rest[0] <= limit:
        nbytes, offset = rest
        return Record(key, kind, nbytes=nbytes, offset=offset, digest=digest)
    if kind == "complex" and types == [float, float]:
        return Record(key, kind, value=complex(*rest))
    if kind == "none" and not rest:
        return Record(key, kind)
    if type(kind) is str and len(rest) == 1 and types[0] in _INLINE.get(kind, ()):
        return Record(key, kind, value=rest[0])
    raise Malformed(f"the record of {key!r} is of no known form")


def _length(text: Any) -> int:
    if isinstance(text, str):
        return len(text.encode())
    return len(text) if isinstance(text, bytes) else 0


def _array(
    key: Any,
    kind: str,
    name: str,
    shape: list,
    offset: int,
    limit: int,
    digest: bytes,
) -> Record:
    allowed = KEY_IMPLS if kind == "key" else ITEMSIZE
    if name not in allowed:
        raise Malformed(f"{key!r} has the unknown dtype {name[:40]!r}")
    if len(shape) > _layout.MAX_NDIM or any(type(n) is not int or n < 0 for n in shape):
        raise Malformed(f"{key!r} has an impossible shape")
    if kind == "key" and shape[-1:] != [KEY_IMPLS[name]]:
        raise Malformed(f"{key!r} has an impossible shape for a PRNG key")
    if kind == "scalar" and shape:
        raise Malformed(f"the scalar {key!r} has a shape")
    itemsize = 4 if kind == "key" else ITEMSIZE[name]
    nbytes = math.prod(shape) * itemsize
    # An axis of 0 makes no bytes, but NumPy refuses other axes whose product is too
    # large.
    others = nbytes or math.prod(n for n in shape if n) * itemsize
    if nbytes > limit or others >= 1 << 63:
        raise Malformed(f"{key!r} is larger than the file")
    place = nbytes, offset
    return Record(key, kind, 0, None, name, tuple(shape), *place, digest=digest)


def walk(records: list[Record]) -> Iterator[tuple[tuple, Record]]:
    """Yield each record with its path, the keys and indices from the root to it.

    Raises:
        Malformed: the records do not make one tree, or a dict has a key twice.
    """
    # Of each open container: path, kind, declared children, those seen, and their keys.
    stack: list[list] = [[(), "root", 1, 0, set()]]
    for record in records:
        while stack and stack[-1][3] == stack[-1][2]:
            stack.pop()
        if not stack:
            raise Malformed("there are records after the end of the tree")
        path, parent, _, index, seen = stack[-1]
        stack[-1][3] += 1
        if parent in ("dict", "node", "state"):
            if record.key in seen:
                raise Malformed(f"a dict has the key {record.key!r} twice")
            seen.add(record.key)
            own = (*path, record.key)
        elif record.key is not None:
            raise Malformed(f"a {parent} has the key {record.key!r}")
        else:
            own = path if parent == "root" else (*path, index)
        _check_node(parent, record, index)
        if len(own) >= _layout.MAX_DEPTH:
            raise Malformed(f"the tree is deeper than {_layout.MAX_DEPTH}")
        if record.kind in CONTAINERS:
            if record.kind == "node" and record.length != 2:
                raise Malformed("a node holds something else than meta and state")
            kind = "state" if (parent, index) == ("node", 1) else record.kind
            stack.append([own, kind, record.length, 0, set()])
        yield own, record
    while stack and stack[-1][3] == stack[-1][2]:
        stack.pop()
    if stack:
        raise Malformed("the tree has fewer records than it declares")


def named(
    walked: Iterator[tuple[tuple, Record]],
) -> Iterator[tuple[str, bool, Record]]:
    """Yield the path of each record as users write it, and if it is metadata.

    The file keeps metadata and state of a node under a key each; users see neither
    the first nor the second.
    """
    above: list[tuple[str | None, bool, bool]] = []  # name, in metadata, is a node
    for where, record in walked:
        del above[len(where) :]
        name, meta, node = above[-1] if above else (None, False, False)
        if where and not (node and where[-1] == "state"):
            meta = meta or (node and where[-1] == "meta")
            name = str(where[-1]) if name is None else f"{name}.{where[-1]}"
        if record.kind in CONTAINERS:
            above.append((name, meta, record.kind == "node"))
        yield name or "", meta, record


def _check_node(parent: str, record: Record, index: int) -> None:
    if parent == "state" and (type(record.key) is not str or record.kind in CONTAINERS):
        raise Malformed("the state of a node is no flat dict of names")
    if parent != "node":
        return
    if record.key != ("meta", "state")[index] or record.kind != "dict":
        raise Malformed("a node holds something else than meta and state")
