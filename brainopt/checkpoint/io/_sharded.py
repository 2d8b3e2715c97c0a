# SPDX-License-Identifier: Apache-2.0
"""The folder of a sharded checkpoint, opened as if it were one file."""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..._memory import empty
from ...errors import CheckpointCorruptError, CheckpointError, CheckpointIOError
from ..format._records import Malformed, Record
from . import _boxes
from ._boxes import Box
from ._contents import Contents
from ._input import Readable
from ._orbax import OrbaxReader, is_of_brainopt
from ._parts import MANIFEST, has_manifest, is_sharded, tree_of
from ._place import place_of
from ._read import Reader, dtype_of

_ATTEMPTS = 100


def open_checkpoint(path: Readable, key: bytes | None = None) -> Contents:
    """Open a checkpoint of brainopt, a file or a folder.

    Args:
        path: what to open.
        key: the key that it was written with, to be sure that nobody else wrote it.

    Raises:
        CheckpointCorruptError: it is damaged, incomplete, or not written with the key.
        CheckpointVersionError: it was written by a newer version of the format.
        CheckpointIOError: the system refused.
    """
    if is_sharded(path):
        return ShardedReader(place_of(path), key)  # type: ignore[arg-type]
    if is_of_brainopt(path):
        if key is not None:
            raise CheckpointError("A folder of Orbax has no tag to prove.")
        return OrbaxReader(place_of(path))  # type: ignore[arg-type]
    return Reader(path, key)


def is_whole(path: Readable) -> bool:
    """Whether a name leads to one checkpoint, a file or a folder, and not to steps."""
    if not isinstance(path, str | os.PathLike) or not os.path.isdir(path):
        return True
    return is_sharded(path) or is_of_brainopt(path)


class _Piece(NamedTuple):
    """One piece of an array: the box it covers, and its record in a part."""

    box: Box
    part: Reader
    place: int


class ShardedReader(Contents):
    """The folder of a sharded checkpoint, opened.

    Args:
        path: the folder.
        key: the key that its files were written with.
    """

    def __init__(self, path: str, key: bytes | None = None) -> None:
        self.path = path
        self._open_files: list[Reader] = []
        for attempt in itertools.count(1):
            try:
                self._open(key)
                return
            except CheckpointIOError as error:
                self.close()
                # A save that ended meanwhile has removed the parts of the one before.
                if error.errno != errno.ENOENT or attempt == _ATTEMPTS:
                    raise
                if not has_manifest(path):
                    reason = f"it has no {MANIFEST}: its save did not end"
                    raise self.damaged(reason) from None
            except BaseException:
                self.close()
                raise

    def _open(self, key: bytes | None) -> None:
        manifest = Reader(os.path.join(self.path, MANIFEST), key, of_folder=True)
        self._open_files.append(manifest)
        self._manifest = manifest
        self.version, self.metadata = manifest.version, manifest.metadata
        try:
            sums, self.records, self._spread = tree_of(manifest.records)
        except Malformed as reason:
            raise self.damaged(str(reason)) from None
        self._first = len(sums) + 2
        for name, total in sums.items():
            self._open_files.append(Reader(os.path.join(self.path, name), key))
            # A part of another save has the right name and shape, and wrong numbers.
            if self._open_files[-1].sha256 != total:
                raise self.damaged(f"{name} belongs to another save")
        self._parts = self._open_files[1:]
        self.size = manifest.size + sum(part.size for part in self._parts)
        self._pieces = self._sorted()

    def _sorted(self) -> dict[int, list[_Piece]]:
        """Return the pieces of each array, which they cover exactly."""
        pieces: dict[int, list[_Piece]] = {number: [] for number in self._spread}
        for part in self._parts:
            for index, record in enumerate(part.records[1:], start=1):
                number, box = self._placed(record)
                pieces[number].append(_Piece(box, part, index))
        for number, found in pieces.items():
            if not _is_grid([piece.box for piece in found], self.records[number].shape):
                raise self.damaged(f"{self.name_of(number)}: pieces of it are missing")
        return pieces

    def _placed(self, record: Record) -> tuple[int, Box]:
        name, _, starts = str(record.key).partition("@")
        try:
            number = int(name)
            first = [int(start) for start in starts.split(",")] if starts else []
            whole = self.records[number]
            box = tuple((n, n + m) for n, m in zip(first, record.shape, strict=True))
        except (ValueError, IndexError):
            number, box, whole = -1, (), record
        kind = "uint32" if whole.kind == "key" else whole.dtype
        if number not in self._spread or record.kind != "array" or record.dtype != kind:
            raise self.damaged(f"the piece {record.key!r} belongs to no array")
        return number, box

    def close(self) -> None:
        """Close all files."""
        for reader in self._open_files:
            reader.close()
        self._open_files.clear()

    def read(self, wanted: Iterable[int]) -> dict[int, np.ndarray]:
        """Do what `Contents.read` promises, and join the pieces."""
        wanted = sorted(wanted)
        local = [self._first + i for i in wanted if i not in self._spread]
        arrays = {
            i - self._first: array for i, array in self._manifest.read(local).items()
        }
        for index in wanted:
            if index in self._spread:
                record = self.records[index]
                array = empty(record.shape, dtype_of(record))
                self.read_into(index, [(_boxes.whole(record.shape), array)])
                arrays[index] = array
        return arrays

    def read_into(self, index: int, wanted: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Do what `Contents.read_into` promises; each piece is read once."""
        if index not in self._spread:
            self._manifest.read_into(self._first + index, wanted)
            return
        # Each piece is read straight into a view of the result, without a copy between.
        for piece in self._pieces[index]:
            here = [
                (_inside(part, piece.box), into[_boxes.slices(part, box)])
                for box, into in wanted
                if (part := _boxes.common(box, piece.box)) is not None
            ]
            if not here:
                continue
            try:
                piece.part.read_into(piece.place, here)
            except CheckpointCorruptError as error:
                name = os.path.basename(piece.part.path)
                raise self.damaged(
                    f"{self.name_of(index)}: its bytes in {name} are damaged"
                ) from error

    def verify(self, progress: Callable[[int], None] = lambda nbytes: None) -> None:
        """Do what `Contents.verify` promises, for every file."""
        for reader in (self._manifest, *self._parts):
            reader.verify(progress)
        for _ in self.walk():
            pass


def _inside(part: Box, box: Box) -> Box:
    return tuple(
        (a - first, b - first) for (a, b), (first, _) in zip(part, box, strict=True)
    )


def _is_grid(boxes: list[Box], shape: tuple[int, ...]) -> bool:
    """Whether boxes cover an array exactly: all of one shape, each cell of it once."""
    # Boxes of one shape, at multiples of it, all different and as many as there are
    # cells: then each cell is covered once. Pairs need not be compared.
    if not boxes:
        return False
    cell = _boxes.shape_of(boxes[0])
    if 0 in cell or any(n % m for n, m in zip(shape, cell, strict=True)):
        return False
    aligned = all(
        _boxes.shape_of(box) == cell
        and all(
            a % m == 0 and b <= n for (a, b), m, n in zip(box, cell, shape, strict=True)
        )
        for box in boxes
    )
    count = math.prod(shape) // math.prod(cell)
    return aligned and len(boxes) == len(set(boxes)) == count
