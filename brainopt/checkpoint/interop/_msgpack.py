# SPDX-License-Identifier: Apache-2.0
"""The MessagePack files of flax, older BrainPy and braintools, read under limits.

Source: the wire format of flax ``serialization.py``: ext type 1 is an array as (shape,
name of the dtype, bytes), 2 a complex, 3 a NumPy scalar; an array of more than 2³⁰
bytes is a map of chunks.
Differs: a parser of its own, because ``msgpack`` builds everything that a file asks
for before it can be refused.
"""

import math
import os
import struct
from typing import Any

import numpy as np

from ..format._dtypes import ITEMSIZE, little_dtype
from ..format._records import Malformed
from ..io._input import damaged, read_whole

# Python objects cost far more than the byte that may declare one; arrays do not count
# by their elements.
_MAX_OBJECTS = 100_000
_MAX_DEPTH = 64
_MAX_TEXT = 1 << 16
_CHUNKED = "__msgpack_chunked_array__"
_FLOATS = {0xCA: ">f", 0xCB: ">d"}
_UINTS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_INTS = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EXTS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def load_msgpack(path: str | os.PathLike[str]) -> Any:
    """Read a file of flax, BrainPy or braintools into plain data.

    Lists and tuples come back as dicts of ``"0"``, ``"1"``, …, for so the file has
    them.

    Raises:
        CheckpointCorruptError: it is damaged, or something else.
    """
    data = read_whole(path)
    try:
        parser = _Parser(memoryview(data))
        tree = parser.value(0)
        if parser.position != len(data) or not isinstance(tree, dict):
            raise Malformed("it is no single MessagePack map")
        return _joined(tree)
    except (Malformed, ValueError, struct.error) as error:
        raise damaged(path, str(error)) from None


class _Parser:
    """A walk over MessagePack that takes no more memory than the data has."""

    def __init__(self, data: memoryview, budget: list[int] | None = None) -> None:
        self.data = data
        self.position = 0
        self.budget = [_MAX_OBJECTS] if budget is None else budget

    def value(self, depth: int) -> Any:
        """Parse the next object."""
        self.budget[0] -= 1
        if depth > _MAX_DEPTH or self.budget[0] < 0:
            raise Malformed("it has too many or too deeply nested values")
        mark = self._take(1)[0]
        # One byte holds a small int, or the kind and the length of something short.
        if mark < 0x80 or mark >= 0xE0:
            return mark if mark < 0x80 else mark - 0x100
        if mark < 0x90:
            return self._map(mark & 15, depth)
        if mark < 0xA0:
            return self._list(mark & 15, depth)
        if mark < 0xC0:
            return self._text(mark & 31)
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        return self._long(mark, depth)

    def _long(self, mark: int, depth: int) -> Any:
        if mark in _BINS:
            return bytes(self._take(self._number(_BINS[mark])))
        if mark in _UINTS:
            return self._number(_UINTS[mark])
        if mark in _INTS:
            return int.from_bytes(self._take(_INTS[mark]), "big", signed=True)
        if mark in _FLOATS:
            return struct.unpack(_FLOATS[mark], self._take(4 if mark == 0xCA else 8))[0]
        if mark in _TEXTS:
            return self._text(self._number(_TEXTS[mark]))
        if mark in _LISTS:
            return self._list(self._number(_LISTS[mark]), depth)
        if mark in _MAPS:
            return self._map(self._number(_MAPS[mark]), depth)
        if mark in _EXTS:
            return self._ext(self._number(_EXTS[mark]), depth)
        if mark in _FIXED_EXTS:
            return self._ext(_FIXED_EXTS[mark], depth)
        raise Malformed(f"the byte {mark:#x} begins no MessagePack object")

    def _take(self, count: int) -> memoryview:
        # The only place that moves on, so that no length in the data is believed.
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise Malformed("it ends within an object")
        return self.data[start : self.position]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _text(self, size: int) -> str:
        if size > _MAX_TEXT:
            raise Malformed("it has a text of more than 64 KiB")
        return str(self._take(size), "utf-8")

    def _list(self, count: int, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str | int) or key in table:
                raise Malformed("a map has a key twice, or one that is no name")
            table[key] = self.value(depth + 1)
        return table

    def _ext(self, size: int, depth: int) -> Any:
        # The content is MessagePack again. It shares the budget: nested extensions
        # could else declare as many objects each.
        code = self._take(1)[0]
        inner = _Parser(self._take(size), self.budget)
        if code not in (1, 2, 3):
            raise Malformed(f"it has the unknown extension {code}")
        value = inner.array(depth) if code != 2 else inner.value(depth + 1)
        if inner.position != size:
            raise Malformed("an extension has bytes left over")
        if code == 2:
            if type(value) is not list or list(map(type, value)) != [float, float]:
                raise Malformed("a complex number has not two parts")
            return complex(*value)
        return value[()] if code == 3 else value

    def array(self, depth: int) -> np.ndarray:
        """Parse the content of an array: its shape, dtype and bytes."""
        if self._take(1)[0] != 0x93:
            raise Malformed("an array has not three parts")
        shape, name = self.value(depth + 1), self.value(depth + 1)
        if type(name) is not str or name not in ITEMSIZE:
            raise Malformed(f"an array has the unknown dtype {str(name)[:40]!r}")
        if type(shape) is not list or len(shape) > 32 or not _sizes(shape):
            raise Malformed("an array has an impossible shape")
        mark = self._take(1)[0]
        data = self._take(self._number(_BINS.get(mark, 0)))
        if mark not in _BINS or len(data) != math.prod(shape) * ITEMSIZE[name]:
            raise Malformed("an array has not the length of its shape")
        return np.frombuffer(data, little_dtype(name)).reshape(shape)


def _sizes(shape: Any) -> bool:
    return all(type(n) is int and n >= 0 for n in shape)


def _joined(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_joined(child) for child in tree]
    if isinstance(tree, np.ndarray):
        return tree.copy()  # until here it lies in the bytes of the file
    if not isinstance(tree, dict):
        return tree
    if tree.get(_CHUNKED) is not True:
        return {key: _joined(child) for key, child in tree.items()}
    # flax splits arrays of more than 2³⁰ bytes; both lists are dicts of "0", "1", ….
    shape, chunks = _in_order(tree.get("shape")), _in_order(tree.get("chunks"))
    if not chunks or not all(isinstance(chunk, np.ndarray) for chunk in chunks):
        raise Malformed("an array in chunks has none")
    if len({chunk.dtype for chunk in chunks}) > 1:
        raise Malformed("the chunks of an array have several dtypes")
    if not _sizes(shape) or math.prod(shape) != sum(chunk.size for chunk in chunks):
        raise Malformed("the chunks of an array have not the size of its shape")
    return np.concatenate([chunk.reshape(-1) for chunk in chunks]).reshape(shape)


def _in_order(table: Any) -> list[Any]:
    if not isinstance(table, dict) or set(table) != set(map(str, range(len(table)))):
        raise Malformed("the chunks of an array are not in order")
    return [table[str(index)] for index in range(len(table))]
