# SPDX-License-Identifier: Apache-2.0
"""A checkpoint opened: proven first, then read into memory of its own.

The footer proves header and manifest, and the manifest proves the arrays.
Nothing is allocated for an array before its place, shape and size were checked
against the size of the file, so a hostile file costs no more than its own length.
"""

import errno
import hashlib
import hmac
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..._memory import empty
from ..._version import __version__
from ...errors import (
    CheckpointError,
    CheckpointVersionError,
    message,
)
from ..format import _layout
from ..format._dtypes import little_dtype
from ..format._records import ARRAYS, Malformed, Record, unpack
from . import _boxes, _threads
from ._boxes import Box
from ._contents import Contents
from ._input import Readable, name_of, open_input
from ._pieces import CHUNK, Piece, pieces_of, side_by_side

_THREADED = 2 * CHUNK
_STRIP = 4 * _layout.BLOCK


class Reader(Contents):
    """An open checkpoint whose header, manifest and footer are proven.

    Args:
        path: the file.
        key: the key that it was written with, to be sure that nobody else wrote it.
        of_folder: whether its arrays may be in other files.

    Raises:
        CheckpointCorruptError: it is damaged, cut, no checkpoint of brainopt, or not
            written with the key.
        CheckpointVersionError: it was written by a newer version of the format.
        CheckpointIOError: the system refused.
    """

    def __init__(
        self, path: Readable, key: bytes | None = None, of_folder: bool = False
    ) -> None:
        self.path = name_of(path)
        self._key = key
        self._of_folder = of_folder
        try:
            self._file = open_input(path)
        except CheckpointError:
            raise
        except OSError as error:
            raise self._refusal(error) from error
        self.size = self._file.size
        try:
            self._prove()
        except CheckpointError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise self._refusal(error) from error
        except Malformed as reason:
            self.close()
            raise self.damaged(str(reason)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, wanted: Iterable[int]) -> dict[int, np.ndarray]:
        """Do what `Contents.read` promises."""
        # In the order of the file, so that a disk reads from front to back.
        wanted = sorted(wanted)
        arrays = {index: self._memory_for(index) for index in wanted}
        total = sum(self.records[index].nbytes for index in wanted)
        self._run(
            total,
            (
                (piece, _bytes_of(arrays[piece.record])[start : start + piece.nbytes])
                for piece, start in self._pieces(wanted)
            ),
        )
        self._check_digests(arrays)
        return arrays

    def read_into(self, index: int, wanted: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Read and verify parts of one array, no block of it more than twice.

        It is read in strips of some rows; those that no part needs are left out.

        Args:
            index: its position in ``records``.
            wanted: boxes of it, and for each an array of its shape to be filled.
        """
        record = self.records[index]
        whole = _boxes.whole(record.shape)
        if len(wanted) == 1 and wanted[0][0] == whole and _is_memory(wanted[0][1]):
            self._read_whole(index, wanted[0][1])
            return
        # A sha256 is that of the whole array; a part of it cannot be proven alone.
        if record.digest or record.nbytes <= CHUNK:
            array = self.read([index])[index]
            for box, into in wanted:
                into[...] = array[_boxes.slices(box)]
            return
        row = record.nbytes // record.shape[0]
        step = max(1, _STRIP // row)
        buffer = bytearray(min(step * row + 2 * _layout.BLOCK, record.nbytes))
        for first in range(0, record.shape[0], step):
            strip = ((first, min(first + step, record.shape[0])), *whole[1:])
            parts = [(_boxes.common(box, strip), box, into) for box, into in wanted]
            if any(part is not None for part, *_ in parts):
                array = self._strip(index, *strip[0], memoryview(buffer))
                for part, box, into in parts:
                    if part is not None:
                        here = array[_boxes.slices(part, strip)]
                        into[_boxes.slices(part, box)] = here

    def _read_whole(self, index: int, into: np.ndarray) -> None:
        memory = _bytes_of(into)
        self._run(
            len(memory),
            (
                (piece, memory[start : start + piece.nbytes])
                for piece, start in self._pieces([index])
            ),
        )
        self._check_digests({index: into})

    def _strip(
        self, index: int, first: int, last: int, buffer: memoryview
    ) -> np.ndarray:
        """Read rows of an array into a buffer, from the first to before the last."""
        record = self.records[index]
        row = record.nbytes // record.shape[0]
        start, end = first * row, last * row
        # Whole blocks around the rows: a checksum covers a block.
        blocks = range(start // _layout.BLOCK, -(-end // _layout.BLOCK))
        begin = blocks.start * _layout.BLOCK
        memory = buffer[: min(len(blocks) * _layout.BLOCK, record.nbytes - begin)]
        self._run(
            len(memory),
            (
                (piece, memory[at - begin : at - begin + piece.nbytes])
                for piece, at in self._pieces([index], blocks)
            ),
        )
        rows = np.frombuffer(memory[start - begin : end - begin], dtype_of(record))
        return rows.reshape(last - first, *record.shape[1:])

    def verify(self, progress: Callable[[int], None] = lambda nbytes: None) -> None:
        """Read and check every byte of the file, holding a few chunks at a time.

        Args:
            progress: called with the number of bytes that were checked, by several
                threads.

        Raises:
            CheckpointCorruptError: a byte differs from the one that was written.
        """
        for _ in self.walk():
            pass
        local = threading.local()

        def check(work: Sequence[tuple[Piece, Any]]) -> None:
            if not hasattr(local, "buffer"):
                local.buffer = memoryview(bytearray(CHUNK))
            ends = list(itertools.accumulate(piece.nbytes for piece, _ in work))
            self._read_pieces(
                [
                    (piece, local.buffer[end - piece.nbytes : end])
                    for (piece, _), end in zip(work, ends, strict=True)
                ]
            )
            progress(ends[-1])

        pieces = self._pieces(range(len(self.records)))
        self._run(sum(self._sizes), pieces, check)
        for index, record in enumerate(self.records):
            if record.digest:
                self.read([index])

    def _prove(self) -> None:
        if self.size < _layout.SMALLEST:
            raise Malformed(f"{self.size} bytes are too few for a checkpoint")
        header = self._bytes(0, _layout.HEADER_BYTES)
        if not header.startswith(_layout.MAGIC):
            raise Malformed(
                "it does not begin as a checkpoint of brainopt does; "
                "`brainopt convert` and `load_foreign` read those of other libraries"
            )
        start = self.size - _layout.FOOTER_BYTES
        footer = _layout.unpack_footer(self._bytes(start, _layout.FOOTER_BYTES))
        if footer is None:
            raise Malformed("its end is damaged or missing")
        if (
            footer.length != self.size
            or footer.manifest_offset < _layout.HEADER_BYTES
            or footer.manifest_offset + footer.manifest_bytes != start
        ):
            raise Malformed(f"it has {self.size} bytes and not {footer.length}")
        self._prove_manifest(header, footer)

    def _prove_manifest(self, header: bytes, footer: _layout.Footer) -> None:
        # The sha256 before the parser: damaged bytes are never parsed.
        manifest = self._bytes(footer.manifest_offset, footer.manifest_bytes)
        if _layout.digest(header, manifest) != footer.sha256:
            raise Malformed("its header or manifest is damaged")
        self.version = _layout.header_version(header)
        if self.version > _layout.VERSION:
            raise CheckpointVersionError(
                message(
                    f"{self.path} has format version {self.version}; brainopt "
                    f"{__version__} reads versions up to {_layout.VERSION}.",
                    help="install a newer brainopt.",
                )
            )
        if header != _layout.pack_header(self.version) or self.version < 1:
            raise Malformed("its header is of no known form")
        self.manifest_offset = footer.manifest_offset
        self.metadata, self.records = unpack(
            memoryview(manifest), footer.manifest_offset
        )
        self.sha256 = footer.sha256
        if len(self.records) != footer.records:
            raise Malformed("its manifest has too many or too few records")
        if not self._of_folder and any(record.spread for record in self.records):
            raise Malformed("it is the manifest of a folder: give the folder")
        self._sizes = [record.nbytes * record.has_payload for record in self.records]
        first = _layout.HEADER_BYTES
        ends = itertools.accumulate(self._sizes, _layout.end_of, initial=first)
        self._positions = list(ends)
        if self._key is not None:
            self._authenticate(header, manifest, footer)
        self._check_needs()

    def _authenticate(
        self, header: bytes, manifest: bytes, footer: _layout.Footer
    ) -> None:
        expected = _layout.tag(self._key, header, manifest)
        whole = all(record.digest for record in self.records if record.has_payload)
        if not hmac.compare_digest(expected, footer.tag) or not whole:
            raise Malformed("it was not written with this key, or was changed since")

    def _check_digests(self, arrays: Mapping[int, np.ndarray]) -> None:
        for index, array in arrays.items():
            digest = self.records[index].digest
            if digest and hashlib.sha256(_bytes_of(array)).digest() != digest:
                raise self.damaged(f"{self.name_of(index)}: SHA-256 does not match")

    def _check_needs(self) -> None:
        needs = self.metadata.get("needs", [])
        if needs:
            raise CheckpointVersionError(
                message(
                    f"{self.path} needs what brainopt {__version__} with format "
                    f"version {_layout.VERSION} has not:",
                    [str(need)[:80] for need in needs]
                    if isinstance(needs, list)
                    else [],
                    "install a newer brainopt.",
                )
            )

    def _bytes(self, offset: int, nbytes: int) -> bytes:
        data = bytearray(nbytes)
        self._fill([memoryview(data)], offset)
        return bytes(data)

    def _fill(self, buffers: list[memoryview], offset: int) -> None:
        while buffers:
            count = self._file.read_at(buffers, offset)
            if count <= 0:
                raise Malformed("it ended while it was read")
            offset += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]

    def _memory_for(self, index: int) -> np.ndarray:
        record = self.records[index]
        try:
            return self._allocate(record)
        except MemoryError:
            lacking = f"no memory for {self.name_of(index)} of {record.nbytes:,} bytes"
            raise self._refusal(OSError(errno.ENOMEM, lacking)) from None

    def _allocate(self, record: Record) -> np.ndarray:
        if record.kind in ARRAYS:
            return empty(record.shape, dtype_of(record))
        return empty((record.nbytes,), np.dtype(np.uint8))

    def _pieces(
        self, wanted: Iterable[int], blocks: range | None = None
    ) -> Iterator[tuple[Piece, int]]:
        return pieces_of(wanted, self._positions, self._sizes, blocks)

    def _run(
        self, total: int, work: Iterable[tuple], act: Callable | None = None
    ) -> None:
        act = act or self._read_pieces
        try:
            if total < _THREADED:
                for pieces in side_by_side(work):
                    act(pieces)
            else:
                _threads.each(act, ((pieces,) for pieces in side_by_side(work)))
        except OSError as error:
            raise self._refusal(error) from error
        except Malformed as reason:
            raise self.damaged(str(reason)) from None

    def _read_pieces(self, work: Sequence[tuple[Piece, memoryview]]) -> None:
        """Read pieces that lie side by side in the file, by one call."""
        heads = [bytearray(len(piece.head)) for piece, _ in work]
        parts = (
            part
            for head, (_, into) in zip(heads, work, strict=True)
            for part in (memoryview(head), into)
        )
        first = work[0][0]
        self._fill([p for p in parts if len(p)], first.offset - len(first.head))
        for head, (piece, into) in zip(heads, work, strict=True):
            self._prove_piece(piece, head, into)

    def _prove_piece(self, piece: Piece, head: bytearray, into: memoryview) -> None:
        record = self.records[piece.record]
        # Blocks start anew in each segment, and a segment is a whole number of them.
        first, count = piece.start // _layout.BLOCK, -(-piece.nbytes // _layout.BLOCK)
        expected = record.checksums[4 * first : 4 * (first + count)]
        if head != piece.head or _layout.block_checksums(into) != expected:
            raise Malformed(f"{self.name_of(piece.record)}: its bytes are damaged")
        # Other bytes than 0 and 1 in a bool are undefined behaviour in NumPy and XLA.
        if record.dtype == "bool" and np.frombuffer(into, np.uint8).max() > 1:
            raise Malformed(
                f"{self.name_of(piece.record)}: truth values beyond 0 and 1"
            )


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def dtype_of(record: Record) -> np.dtype:
    """Return the dtype of an array in the byte order of the file."""
    return np.dtype("<u4") if record.kind == "key" else little_dtype(record.dtype)


def _is_memory(array: np.ndarray) -> bool:
    return array.flags.c_contiguous and array.ndim > 0
