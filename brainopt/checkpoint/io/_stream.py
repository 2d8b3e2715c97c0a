# SPDX-License-Identifier: Apache-2.0
"""Records written as a stream of bytes, with checksums computed meanwhile."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..format import _layout
from ..format._records import Record, framed, pack

_CHUNK = 4 * _layout.BLOCK
_THREADED = 4 * _CHUNK

Sink = Callable[[bytes | bytearray | memoryview], None]
Fetch = Callable[[int], tuple[memoryview, bool]]


class Stream:
    """Bytes that are written once from front to back.

    Short pieces are gathered; long ones go to the system as they are, in chunks, while
    a helper thread takes the checksums of the chunk before. Without a helper they go
    block by block: one that was just summed is in the cache still when it is written,
    so that a step of training beside it keeps its bandwidth to memory.

    Args:
        sink: takes all of the bytes it is given.
        pool: the helper thread, or None to take checksums in line.
    """

    def __init__(self, sink: Sink, pool: ThreadPoolExecutor | None) -> None:
        self._sink = sink
        self.position = 0
        self._pool = pool
        self._gathered = bytearray()

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Append a short piece."""
        self._gathered += data
        self.position += len(data)
        if len(self._gathered) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write the gathered pieces to the sink."""
        self._sink(self._gathered)
        self._gathered = bytearray()

    def put_array(
        self, data: memoryview, shared: bool, digest: Any = None
    ) -> tuple[int, bytes]:
        """Append an array with the padding and heads before it.

        Args:
            data: the bytes of the array.
            shared: whether somebody may write into them meanwhile. Then each chunk
                is copied first, so that checksum and file see the same bytes.
            digest: a hash to feed with the bytes that are written.

        Returns:
            Where the array begins, and its checksums.
        """
        # ``first`` stays 0 for an array without bytes, as the reader expects it.
        first, checksums, done = 0, [], 0
        for segment in _layout.segments(self.position, len(data)):
            first = first or segment.offset
            self.put(segment.head)
            piece = data[done : done + segment.nbytes]
            done += segment.nbytes
            if len(piece) < _layout.BLOCK:
                own = memoryview(bytes(piece)) if shared else piece
                checksums.append(_layout.block_checksums(own))
                self.put(own)
                if digest is not None:
                    digest.update(own)
            else:
                checksums += self._put_long(piece, shared, digest)
        return first, b"".join(checksums)

    def _put_long(self, piece: memoryview, shared: bool, digest: Any) -> list[bytes]:
        self.flush()
        running: deque[Callable[[], bytes]] = deque()
        checksums = []
        size = _layout.BLOCK if self._pool is None else _CHUNK
        for start in range(0, len(piece), size):
            chunk = piece[start : start + size]
            if shared:
                chunk = memoryview(bytes(chunk))
            # Submitted before the write, so that both run at the same time. At most
            # three are under way: their chunks are in memory.
            running.append(self._summed(chunk))
            self._sink(chunk)
            if digest is not None:
                digest.update(chunk)
            if len(running) > 2:
                checksums.append(running.popleft()())
        self.position += len(piece)
        return checksums + [result() for result in running]

    def _summed(self, chunk: memoryview) -> Callable[[], bytes]:
        if self._pool is not None:
            # When the interpreter is ending, a pool takes no more work.
            with contextlib.suppress(RuntimeError):
                return self._pool.submit(_layout.block_checksums, chunk).result
        checksums = _layout.block_checksums(chunk)
        return lambda: checksums


def write_records(
    sink: Sink,
    records: Sequence[Record],
    fetch: Fetch,
    metadata: Mapping[str, object],
    helper: bool = True,
    seal: _layout.Seal = _layout.NO_SEAL,
) -> None:
    """Write header, payload, manifest and footer of a checkpoint.

    Args:
        sink: takes all of the bytes it is given, in order.
        records: a tree in preorder; offsets and checksums are added here.
        fetch: gives the bytes of the n-th record, and whether somebody else may
            write into them meanwhile.
        metadata: the metadata map of the file.
        helper: whether a second thread may take the checksums of much payload.
        seal: the proofs that the file keeps beyond its checksums.
    """
    # A thread costs more than it saves for a small file.
    work = records, fetch, metadata, seal
    if not helper or sum(record.nbytes for record in records) < _THREADED:
        _write(Stream(sink, None), *work)
        return
    with ThreadPoolExecutor(1, "brainopt-checksum") as pool:
        _write(Stream(sink, pool), *work)


def _write(
    stream: Stream,
    records: Sequence[Record],
    fetch: Fetch,
    metadata: Mapping[str, object],
    seal: _layout.Seal,
) -> None:
    # The manifest is gathered while the payload is written: a record holds the offset
    # and the checksums of its array, which are known only then.
    header = _layout.pack_header()
    stream.put(header)
    manifest = bytearray(framed(dict(metadata)))
    for index, record in enumerate(records):
        if record.has_payload:
            digest = hashlib.sha256() if seal.digest else None
            offset, checksums = stream.put_array(*fetch(index), digest)
            record = record._replace(
                offset=offset,
                checksums=checksums,
                digest=b"" if digest is None else digest.digest(),
            )
        manifest += pack(record)
    # The footer is last: where it is, everything before it was handed to the system.
    start = stream.position
    stream.put(manifest)
    stream.put(
        _layout.pack_footer(
            _layout.Footer(
                stream.position + _layout.FOOTER_BYTES,
                start,
                len(manifest),
                len(records),
                _layout.digest(header, manifest),
                _layout.tag(seal.key, header, manifest),
            )
        )
    )
    stream.flush()
