# SPDX-License-Identifier: Apache-2.0
"""A tree taken apart into records and leaves, all of its states from one instant.

Everything is checked here, before a file is touched: what cannot be stored exactly, or
would be refused by a reader, is listed by path in one error.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.core
import numpy as np

from ..._typing import PyTree
from ..._version import __version__
from ..format import _layout
from ..format._records import Record
from ..io._boxes import Box
from ._leaves import ArrayLeaf, BytesLeaf, Unstorable, refusal
from ._paths import children, public
from ._protocol import CONSTANTS, NOTES, Stateful, is_stateful, walked_once
from ._spread import SpreadLeaf, is_spread
from ._states import read_states

_PLAIN = {dict: "dict", list: "list", tuple: "tuple"}
_KEYS = (str, int, float, bool, bytes, type(None))

Leaf = ArrayLeaf | BytesLeaf | SpreadLeaf


class Snapshot:
    """The records of a tree in preorder, and the leaves that wait to be written.

    The tree is walked once. Stateful objects are noted on the way, their states are
    read at one instant, and their records take the places that were noted.

    Args:
        tree: nested dicts, lists and tuples of plain values, arrays and stateful
            objects, or one stateful object.
        own: copy NumPy arrays at once, for a save that goes on while the caller
            writes into them. JAX arrays cannot change and are never copied.
        sharded: leave arrays on several devices in their pieces.

    Raises:
        CheckpointError: something cannot be stored; every such path is listed.
    """

    def __init__(self, tree: PyTree, own: bool = False, sharded: bool = False) -> None:
        self._sharded = sharded
        self.records: list[Record] = []
        self.leaves: list[Leaf | None] = []
        self.paths: list[tuple] = []
        self.nodes: set[tuple] = set()
        self.metas: dict[tuple, dict[str, Any]] = {}
        self._wrong: list[str] = []
        self._above: set[int] = set()
        self._found: list[tuple[int, tuple, Any, Stateful]] = []
        # First the walk, then all states: reading a state inside the walk would give
        # each node another instant, and a running step might fall between two of them.
        self._add((), None, tree)
        with walked_once([node for *_, node in self._found]):
            self._add_states()
        self._check_size()
        self._refuse()
        del self._found, self._above
        if own:
            self._each("own")

    def block_until_ready(self) -> None:
        """Wait for all arrays, before a file is touched.

        Raises:
            CheckpointError: an array was deleted, or failed while it was computed.
        """
        self._each("block_until_ready")

    def _each(self, act: Literal["own", "block_until_ready"]) -> None:
        for path, leaf in zip(self.paths, self.leaves, strict=True):
            try:
                if leaf is not None:
                    getattr(leaf, act)()
            except Unstorable as reason:
                self._wrong.append(f"{self._shown(path)}: {reason}")
        self._refuse()

    def take_constants(self) -> dict[str, str]:
        """Leave the checksums of constants empty, and return them.

        A process of several may keep its own part of the data in an attribute. So
        the processes compare these apart from the rest of the tree, and `put_constants`
        writes what is the same in all of them.
        """
        taken: dict[str, str] = {}
        for index, (path, record) in enumerate(
            zip(self.paths, self.records, strict=True)
        ):
            inside = path[-3:-1] == ("meta", CONSTANTS) and path[:-3] in self.nodes
            if inside and record.kind == "str":
                taken[str(index)] = record.value
                self.records[index] = record._replace(value="")
        return taken

    def put_constants(self, brought: Sequence[Mapping[str, str]]) -> None:
        """Write the checksums that every process took from its snapshot alike."""
        for index, text in brought[0].items():
            if all(other.get(index) == text for other in brought):
                record = self.records[int(index)]
                self.records[int(index)] = record._replace(value=text)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata map: the versions of the libraries."""
        return {"library": f"brainopt {__version__}", "jax": jax.__version__}

    def _check_size(self) -> None:
        # The limits of the reader (see `format._records.unpack`): a file that is
        # written must be one that can be read. 4096 bytes are left for the metadata
        # map.
        payloads = sum(r.has_payload and r.nbytes > 0 for r in self.records)
        if len(self.records) - payloads > _layout.MAX_PLAIN + payloads:
            self._wrong.append(
                f"{len(self.records) - payloads:,} plain values and containers; "
                f"{_layout.MAX_PLAIN:,} more than arrays can be stored: put numbers "
                "into arrays"
            )
        texts = sum(r.nbytes for r in self.records if r.kind == "long str")
        if texts > _layout.MAX_TEXT:
            self._wrong.append("long texts of more than 8 MiB in all: store bytes")
        keys = sum(record.kind == "key" for record in self.records)
        if keys > _layout.MAX_PRNG_KEYS:
            self._wrong.append(
                f"{keys:,} PRNG keys; {_layout.MAX_PRNG_KEYS:,} can be stored: put "
                "them into arrays of keys"
            )
        limit = _layout.max_manifest_text(payloads) - 4096
        if sum(map(_max_bytes, self.records)) > limit:
            self._wrong.append(
                f"names and short texts of more than {limit + 4096 >> 20} MiB in all"
            )

    def _refuse(self) -> None:
        if self._wrong:
            raise refusal(self._wrong)

    def fetch(self, index: int) -> tuple[memoryview, bool]:
        """Return the bytes of a leaf; see `ArrayLeaf.host`.

        Raises:
            CheckpointError: it could not be copied from its device.
        """
        leaf = self.leaves[index]
        assert isinstance(leaf, ArrayLeaf | BytesLeaf)
        try:
            return leaf.host()
        except Unstorable as reason:
            raise refusal([f"{self.name_of(index)}: {reason}"]) from reason

    def fetch_piece(self, index: int, box: Box) -> tuple[memoryview, bool]:
        """Return the bytes of a piece; see `SpreadLeaf.host`.

        Raises:
            CheckpointError: it could not be copied from its device.
        """
        leaf = self.leaves[index]
        assert isinstance(leaf, SpreadLeaf)
        try:
            return leaf.host(box)
        except Unstorable as reason:
            raise refusal([f"{self.name_of(index)}: {reason}"]) from reason

    def name_of(self, index: int) -> str:
        """Write the path of a record as users do."""
        return self._shown(self.paths[index])

    def _add(self, path: tuple, key: Any, value: Any) -> None:
        try:
            if len(path) >= _layout.MAX_DEPTH:
                raise Unstorable(f"it lies deeper than {_layout.MAX_DEPTH}")
            kind = _PLAIN.get(type(value))
            if kind is not None:
                self._add_container(path, key, kind, value)
            elif is_stateful(value):
                self.nodes.add(path)
                self._found.append((len(self.records), path, key, value))
            else:
                self._append(path, *self._leaf(key, value))
        except Unstorable as reason:
            self._wrong.append(f"{self._shown(path)}: {reason}")

    def _append(self, path: tuple, record: Record, leaf: Leaf | None = None) -> None:
        self.records.append(record)
        self.leaves.append(leaf)
        self.paths.append(path)

    def _add_container(self, path: tuple, key: Any, kind: str, value: Any) -> None:
        if kind == "dict":
            for name in value:
                _check_key(name)
        # Only the containers above: one that is there twice, but not within itself, is
        # stored twice.
        if id(value) in self._above:
            raise Unstorable("it lies within itself")
        self._append(path, Record(key, kind, length=len(value)))
        self._above.add(id(value))
        for name, child in children(value) or ():
            self._add((*path, name), name if kind == "dict" else None, child)
        self._above.discard(id(value))

    def _add_states(self) -> None:
        """Read all states at once; put their records at the places of the objects."""
        # ``place`` is where the records of a node belong among those of the walk. The
        # lists are built anew: an insert in the middle would move the rest each time.
        found, self._found = self._found, []
        states = read_states([node for *_, node in found])
        whole, done = (self.records, self.leaves, self.paths), 0
        self.records, self.leaves, self.paths = [], [], []
        for (place, path, key, node), state in zip(found, states, strict=True):
            self._take(whole, done, place)
            done = place
            try:
                self._add_node(path, key, node, state)
            except Unstorable as reason:
                self._wrong.append(f"{self._shown(path)}: {reason}")
        self._take(whole, done, len(whole[0]))

    def _take(self, whole: tuple[list, list, list], start: int, end: int) -> None:
        mine = self.records, self.leaves, self.paths
        for part, own in zip(whole, mine, strict=True):
            own.extend(part[start:end])

    def _add_node(
        self, path: tuple, key: Any, node: Stateful, state: Mapping[str, Any]
    ) -> None:
        self._append(path, Record(key, "node", length=2))
        meta = self.metas[path] = _metadata(node, state)
        self._add((*path, "meta"), "meta", meta)
        for name in state:
            if type(name) is not str:
                raise Unstorable(
                    f"its state dict has the key {name!r}, which is no str"
                )
            _check_key(name)
        self._append((*path, "state"), Record("state", "dict", length=len(state)))
        for name, array in state.items():
            if type(array) in _PLAIN or is_stateful(array):
                array = _Nested()
            self._add((*path, "state", name), name, array)

    def _leaf(self, key: Any, value: Any) -> tuple[Record, Leaf | None]:
        if self._sharded and is_spread(value):
            leaf = SpreadLeaf(value)
            return leaf.record(key), leaf
        return _leaf(key, value)

    def _shown(self, path: tuple) -> str:
        return public(path, self.nodes) or "the value itself"


class _Nested:
    """A container within a state dict, which is flat."""


def _metadata(node: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    meta = dict(node._checkpoint_meta())
    notes = getattr(node, "_checkpoint_notes", None)
    # Notes compute with the values; one that is gone is refused by its path instead.
    if notes is not None and not any(_is_gone(value) for value in state.values()):
        meta[NOTES] = dict(notes(state))
    return meta


def _is_gone(value: Any) -> bool:
    """Whether nothing can be read of it; it is refused by its path."""
    if not isinstance(value, jax.Array):
        return False
    return isinstance(value, jax.core.Tracer) or value.is_deleted()


def _leaf(key: Any, value: Any) -> tuple[Record, Leaf | None]:
    # Except for arrays by the exact type: an IntEnum, or any other subclass, would come
    # back as its base, which is not what was saved.
    if isinstance(value, jax.Array | np.generic):
        return _array(key, value)
    if isinstance(value, np.ndarray):
        if type(value) not in (np.ndarray, np.memmap):
            raise Unstorable(f"a {type(value).__name__}: pass np.asarray of it")
        return _array(key, value)
    if value is None:
        return Record(key, "none"), None
    if type(value) in (bool, float, complex):
        return Record(key, type(value).__name__, value=value), None
    if type(value) is int:
        return _integer(key, value)
    if type(value) in (str, bytes):
        return _text(key, value)
    if type(value) is _Nested:
        raise Unstorable("a state dict holds arrays, and nothing nested")
    raise Unstorable(f"a {type(value).__module__}.{type(value).__qualname__}")


def _array(key: Any, value: Any) -> tuple[Record, Leaf]:
    leaf = ArrayLeaf(value)
    return leaf.record(key), leaf


def _integer(key: Any, value: int) -> tuple[Record, Leaf | None]:
    # The range of MessagePack; longer ints are stored as bytes.
    if -(1 << 63) <= value < 1 << 64:
        return Record(key, "int", value=value), None
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) <= _layout.MAX_INLINE:
        return Record(key, "int", value=data), None
    return _long(key, "long int", data)


def _text(key: Any, value: str | bytes) -> tuple[Record, Leaf | None]:
    data = _utf8(value) if isinstance(value, str) else value
    if len(data) <= _layout.MAX_INLINE:
        return Record(key, type(value).__name__, value=value), None
    if isinstance(value, str) and len(data) > _layout.MAX_TEXT:
        raise Unstorable("a str of more than 8 MiB: store its encoded bytes")
    return _long(key, f"long {type(value).__name__}", data)


def _long(key: Any, kind: str, data: bytes) -> tuple[Record, Leaf]:
    leaf = BytesLeaf(kind, data)
    return leaf.record(key), leaf


def _max_bytes(record: Record) -> int:
    # An upper bound of the packed record: 9 bytes hold any number of the shape, and 64
    # all that is of fixed size.
    size = 64 + 9 * len(record.shape)
    for part in (record.key, record.value):
        if isinstance(part, str):
            size += len(part.encode())
        elif isinstance(part, bytes):
            size += len(part)
    return size


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unstorable("a str with half a surrogate pair") from None


def _check_key(key: Any) -> None:
    # NaN as a key is found by identity only, so no loaded dict could be asked for it.
    if type(key) not in _KEYS or key != key:
        raise Unstorable(f"the key {key!r} is a {type(key).__name__}, or no number")
    if type(key) is int and not -(1 << 63) <= key < 1 << 64:
        raise Unstorable(f"the key {key} has more than 64 bits")
    data = _utf8(key) if isinstance(key, str) else key
    if isinstance(data, bytes) and len(data) > _layout.MAX_KEY_BYTES:
        raise Unstorable(f"a key of {len(data)} bytes; 4096 can be stored")
