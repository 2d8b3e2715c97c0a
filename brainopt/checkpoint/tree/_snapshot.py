# SPDX-License-Identifier: Apache-2.0
"""A tree taken apart at one instant, and everything in it that cannot be stored."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.core
import numpy as np

from ..._version import __version__
from ...errors import CheckpointError, message
from ..format import _layout
from ..format._records import Record
from ._leaves import ArrayLeaf, BytesLeaf, Unstorable, refusal
from ._paths import public
from ._protocol import NOTES, Stateful

_ATTEMPTS = 1000
_MOST_IN_ALL = _layout.MOST_MANIFEST_TEXT - 4096
_PLAIN = {dict: "dict", list: "list", tuple: "tuple"}
_KEYS = (str, int, float, bool, bytes, type(None))

Leaf = ArrayLeaf | BytesLeaf


class Snapshot:
    """The records of a tree in preorder, and the leaves that wait to be written.

    Args:
        tree: nested dicts, lists and tuples of plain values, arrays and stateful
            objects, or one stateful object.
        own: copy NumPy arrays at once, for a save that goes on while the caller
            writes into them. JAX arrays cannot change and are never copied.

    Raises:
        CheckpointError: something cannot be stored; every such path is listed.
    """

    def __init__(self, tree: Any, own: bool = False) -> None:
        self.items: list[tuple[Record, Leaf | None]] = []
        self.paths: list[tuple] = []
        self.nodes: set[tuple] = set()
        self._wrong: list[str] = []
        self._above: set[int] = set()
        self._states = _read_states(tree)
        self._add((), None, tree)
        self._check_size()
        self._refuse()
        del self._states, self._above
        if own:
            self._each("own")

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(leaf.nbytes for _, leaf in self.items if leaf is not None)

    def settle(self) -> None:
        """Wait for all arrays, before a file is touched.

        Raises:
            CheckpointError: an array was deleted, or failed while it was computed.
        """
        self._each("settle")

    def _each(self, act: Literal["own", "settle"]) -> None:
        for path, (_, leaf) in zip(self.paths, self.items, strict=True):
            try:
                if leaf is not None:
                    getattr(leaf, act)()
            except Unstorable as reason:
                self._wrong.append(f"{self._said(path)}: {reason}")
        self._refuse()

    def metadata(self) -> dict[str, Any]:
        """Say which library wrote the file."""
        return {"library": f"brainopt {__version__}", "jax": jax.__version__}

    def _check_size(self) -> None:
        texts = sum(
            leaf.nbytes
            for record, leaf in self.items
            if leaf is not None and record.kind == "long str"
        )
        if texts > _layout.MOST_TEXT:
            self._wrong.append("long texts of more than 8 MiB in all: store bytes")
        keys = sum(record.kind == "key" for record, _ in self.items)
        if keys > _layout.MOST_PRNG_KEYS:
            self._wrong.append(
                f"{keys:,} PRNG keys; {_layout.MOST_PRNG_KEYS:,} can be stored: put "
                "them into arrays of keys"
            )
        if sum(_most_bytes(record) for record, _ in self.items) > _MOST_IN_ALL:
            self._wrong.append("names and short texts of more than 16 MiB in all")

    def _refuse(self) -> None:
        if self._wrong:
            raise refusal(self._wrong)

    def fetch(self, index: int) -> tuple[memoryview, bool]:
        """Return the bytes of a leaf; see `ArrayLeaf.host`.

        Raises:
            CheckpointError: it could not be copied from its device.
        """
        leaf = self.items[index][1]
        assert leaf is not None
        try:
            return leaf.host()
        except Unstorable as reason:
            raise refusal([f"{self._said(self.paths[index])}: {reason}"]) from reason

    def _add(self, path: tuple, key: Any, value: Any) -> None:
        try:
            if len(path) >= _layout.MOST_DEPTH:
                raise Unstorable(f"it lies deeper than {_layout.MOST_DEPTH}")
            kind = _PLAIN.get(type(value))
            if kind is not None:
                self._add_container(path, key, kind, value)
            elif isinstance(value, Stateful) and not isinstance(value, type):
                self._add_node(path, key, value)
            else:
                self._append(path, *_leaf(key, value))
        except Unstorable as reason:
            self._wrong.append(f"{self._said(path)}: {reason}")

    def _append(self, path: tuple, record: Record, leaf: Leaf | None = None) -> None:
        if len(self.items) == _layout.MOST_RECORDS:
            self._wrong.append(f"more than {_layout.MOST_RECORDS} values in all")
            self._refuse()
        self.items.append((record, leaf))
        self.paths.append(path)

    def _add_container(self, path: tuple, key: Any, kind: str, value: Any) -> None:
        if kind == "dict":
            for name in value:
                _check_key(name)
        if id(value) in self._above:
            raise Unstorable("it lies within itself")
        self._append(path, Record(key, kind, count=len(value)))
        self._above.add(id(value))
        children = value.items() if kind == "dict" else enumerate(value)
        for name, child in children:
            self._add((*path, name), name if kind == "dict" else None, child)
        self._above.discard(id(value))

    def _add_node(self, path: tuple, key: Any, value: Stateful) -> None:
        state = self._states[id(value)]
        self.nodes.add(path)
        self._append(path, Record(key, "node", count=2))
        self._add((*path, "meta"), "meta", _metadata(value, state))
        for name in state:
            if type(name) is not str:
                raise Unstorable(
                    f"its state dict has the key {name!r}, which is no str"
                )
            _check_key(name)
        self._append((*path, "state"), Record("state", "dict", count=len(state)))
        for name, array in state.items():
            if type(array) in _PLAIN or isinstance(array, Stateful):
                array = _Nested()
            self._add((*path, "state", name), name, array)

    def _said(self, path: tuple) -> str:
        return public(path, self.nodes) or "the value itself"


class _Nested:
    """A container within a state dict, which is flat."""


def _metadata(node: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    meta = dict(node.checkpoint_meta())
    notes = getattr(node, "checkpoint_notes", None)
    if notes is not None and not any(_is_gone(value) for value in state.values()):
        meta[NOTES] = dict(notes(state))
    return meta


def _is_gone(value: Any) -> bool:
    """Whether nothing can be read of it; it is refused by its path."""
    if not isinstance(value, jax.Array):
        return False
    return isinstance(value, jax.core.Tracer) or value.is_deleted()


def _leaf(key: Any, value: Any) -> tuple[Record, Leaf | None]:
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
    return leaf.record(key, 0, b""), leaf


def _integer(key: Any, value: int) -> tuple[Record, Leaf | None]:
    if -(1 << 63) <= value < 1 << 64:
        return Record(key, "int", value=value), None
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) <= _layout.MOST_INLINE:
        return Record(key, "int", value=data), None
    return _long(key, "long int", data)


def _text(key: Any, value: str | bytes) -> tuple[Record, Leaf | None]:
    data = _utf8(value) if isinstance(value, str) else value
    if len(data) <= _layout.MOST_INLINE:
        return Record(key, type(value).__name__, value=value), None
    if isinstance(value, str) and len(data) > _layout.MOST_TEXT:
        raise Unstorable("a str of more than 8 MiB: store its encoded bytes")
    return _long(key, f"long {type(value).__name__}", data)


def _long(key: Any, kind: str, data: bytes) -> tuple[Record, Leaf]:
    leaf = BytesLeaf(kind, data)
    return leaf.record(key, 0, b""), leaf


def _most_bytes(record: Record) -> int:
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
    if type(key) not in _KEYS or key != key:
        raise Unstorable(f"the key {key!r} is a {type(key).__name__}, or no number")
    if type(key) is int and not -(1 << 63) <= key < 1 << 64:
        raise Unstorable(f"the key {key} has more than 64 bits")
    data = _utf8(key) if isinstance(key, str) else key
    if isinstance(data, bytes) and len(data) > _layout.MOST_KEY_BYTES:
        raise Unstorable(f"a key of {len(data)} bytes; 4096 can be stored")


def _read_states(tree: Any) -> dict[int, Mapping[str, Any]]:
    nodes: dict[int, Any] = {id(node): node for node in _nodes(tree)}
    if nodes and all(hasattr(node, "state_dict_with") for node in nodes.values()):
        first, *others = nodes.values()
        return dict(zip(nodes, first.state_dict_with(*others), strict=True))
    # Two readings that hold the very same arrays prove that no step was committed
    # between the end of the first and the start of the second: one instant for all.
    first = {key: node.state_dict() for key, node in nodes.items()}
    for _ in range(_ATTEMPTS):
        second = {key: node.state_dict() for key, node in nodes.items()}
        if all(_same(first[key], second[key]) for key in nodes):
            return second
        first = second
    raise CheckpointError(
        message(
            "The state changes faster than it can be read.",
            help="save from the thread that trains, and let `state_dict` return the "
            "arrays that the object holds, not copies.",
        )
    )


def _nodes(tree: Any) -> Iterator[Stateful]:
    waiting, seen = [tree], set()
    while waiting:
        part = waiting.pop()
        if type(part) in _PLAIN and id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part.values() if type(part) is dict else part)
        elif isinstance(part, Stateful) and not isinstance(part, type):
            yield part


def _same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return len(one) == len(two) and all(
        name in two and (two[name] is value or _equal(value, two[name]))
        for name, value in one.items()
    )


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, jax.Array) or isinstance(two, jax.Array):
        return False
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return one.tobytes() == two.tobytes() and one.dtype == two.dtype
    return type(one) is type(two) and bool(one == two)
