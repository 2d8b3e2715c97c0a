# SPDX-License-Identifier: Apache-2.0
"""A checkpoint opened: proven first, then read into memory of its own.

Nothing is allocated for an array before its place, shape and size were checked
against the size of the file, so a hostile file costs no more than its own length.
"""

import errno
import hashlib
import hmac
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from ..._version import __version__
from ...errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    CheckpointVersionError,
    message,
)
from ..format import _layout
from ..format._dtypes import little_dtype
from ..format._records import Malformed, Record, named, unpack, walk
from . import _threads
from ._input import Readable, name_of, open_input

_CHUNK = 8 * _layout.BLOCK
_THREADED = 2 * _CHUNK
_HUGE_PAGE = 1 << 21
_LARGE = 4 * _HUGE_PAGE


class _Piece(NamedTuple):
    """A stretch of payload to read: at most one chunk, and the head before it."""

    record: int
    start: int
    head: bytes
    offset: int
    nbytes: int


class Reader:
    """An open checkpoint whose header, manifest and footer are proven.

    Args:
        path: the file.
        key: the key that it was written with, to be sure that nobody else wrote it.

    Raises:
        CheckpointCorruptError: it is damaged, cut, no checkpoint of brainopt, or not
            written with the key.
        CheckpointVersionError: it was written by a newer version of the format.
        CheckpointIOError: the system refused.
    """

    def __init__(self, path: Readable, key: bytes | None = None) -> None:
        self.path = name_of(path)
        self._key = key
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

    def __enter__(self) -> "Reader":
        """Give the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def damaged(self, reason: str) -> CheckpointCorruptError:
        """Say what is wrong with the file."""
        return CheckpointCorruptError(
            message(
                f"{self.path} is no intact checkpoint:",
                [reason],
                "take another copy of it, or the checkpoint before it.",
            )
        )

    def walk(self) -> Iterator[tuple[tuple, Record]]:
        """Yield each record with its path."""
        try:
            yield from walk(self.records)
        except Malformed as reason:
            raise self.damaged(str(reason)) from None

    def name_of(self, index: int) -> str:
        """Write the path of a record as users do."""
        name, _, _ = next(itertools.islice(self.named(), index, None))
        return name or "the value itself"

    def named(self) -> Iterator[tuple[str, bool, Record]]:
        """Yield each record with its path, and whether it is metadata."""
        return named(self.walk())

    def read(self, wanted: Iterable[int]) -> dict[int, np.ndarray]:
        """Read and verify the payload of some records.

        Args:
            wanted: positions in ``records``, in any order.

        Returns:
            By position: arrays of the stored dtype and shape in little-endian order,
            uint32 key data for PRNG keys, and uint8 for long texts and numbers.
        """
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

    def verify(self, progress: Callable[[int], None] = lambda nbytes: None) -> None:
        """Read and check every byte of the file, holding a few chunks at a time.

        Args:
            progress: told how many bytes come next.

        Raises:
            CheckpointCorruptError: a byte is not what it was when it was written.
        """
        for _ in self.walk():
            pass
        local = threading.local()

        def buffers() -> Iterator[tuple[_Piece, memoryview | threading.local]]:
            for piece, _ in self._pieces(range(len(self.records))):
                progress(piece.nbytes)
                yield piece, local

        self._run(sum(record.nbytes for record in self.records), buffers())
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
        if len(self.records) != footer.records:
            raise Malformed("its manifest has too many or too few records")
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
                raise self.damaged(f"{self.name_of(index)}: its digest is another")

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

    def _refusal(self, error: OSError) -> CheckpointError:
        return CheckpointIOError.of(self.path, error, "could not be read")

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
        if record.kind in ("array", "scalar"):
            return _empty(record.shape, little_dtype(record.dtype))
        if record.kind == "key":
            return _empty(record.shape, np.dtype("<u4"))
        return _empty((record.nbytes,), np.dtype(np.uint8))

    def _pieces(self, wanted: Iterable[int]) -> Iterator[tuple[_Piece, int]]:
        position, chosen = _layout.HEADER_BYTES, set(wanted)
        for index, record in enumerate(self.records):
            done = 0
            for segment in _layout.segments(position, record.nbytes):
                position = segment.offset + segment.nbytes
                if index not in chosen:
                    continue
                for start in range(0, segment.nbytes, _CHUNK):
                    size = min(_CHUNK, segment.nbytes - start)
                    head = b"" if start else segment.head
                    piece = _Piece(
                        index, done + start, head, segment.offset + start, size
                    )
                    yield piece, done + start
                done += segment.nbytes

    def _run(self, total: int, work: Iterable[tuple]) -> None:
        try:
            if total < _THREADED:
                for piece, into in work:
                    self._read_piece(piece, into)
            else:
                _threads.each(self._read_piece, work)
        except OSError as error:
            raise self._refusal(error) from error
        except Malformed as reason:
            raise self.damaged(str(reason)) from None

    def _read_piece(self, piece: _Piece, into: memoryview | threading.local) -> None:
        if isinstance(into, threading.local):
            if not hasattr(into, "buffer"):
                into.buffer = bytearray(_CHUNK)
            into = memoryview(into.buffer)[: piece.nbytes]
        record = self.records[piece.record]
        head = bytearray(len(piece.head))
        buffers = [memoryview(part) for part in (head, into) if len(part)]
        self._fill(buffers, piece.offset - len(head))
        # Blocks start anew in each segment, and a segment is a whole number of them.
        first, count = piece.start // _layout.BLOCK, -(-piece.nbytes // _layout.BLOCK)
        expected = record.checksums[4 * first : 4 * (first + count)]
        if head != piece.head or _layout.block_checksums(into) != expected:
            raise Malformed(f"{self.name_of(piece.record)}: its bytes are damaged")
        if record.dtype == "bool" and np.frombuffer(into, np.uint8).max() > 1:
            raise Malformed(
                f"{self.name_of(piece.record)}: truth values beyond 0 and 1"
            )


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Take memory for an array; a large one begins at a huge page.

    The system clears memory when it is first written, 2 MiB at once in a huge page and
    4 KiB at a time elsewhere.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(nbytes + _HUGE_PAGE, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))
