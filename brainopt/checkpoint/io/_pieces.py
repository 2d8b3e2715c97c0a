# SPDX-License-Identifier: Apache-2.0
"""The pieces in which the payload of a file is read.

A large array is read in pieces of one chunk, by several threads. Small arrays are many:
to read each by itself costs a call to the system, and a request where the file is
elsewhere, so those that lie side by side are read together.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..format import _layout

CHUNK = 8 * _layout.BLOCK
"""The bytes that are read at once."""
_MAX_TOGETHER = 256


class Piece(NamedTuple):
    """A stretch of payload to read: at most one chunk, and the head before it."""

    record: int
    start: int
    head: bytes
    offset: int
    nbytes: int


def pieces_of(
    wanted: Iterable[int],
    positions: Sequence[int],
    sizes: Sequence[int],
    blocks: range | None = None,
) -> Iterator[tuple[Piece, int]]:
    """Yield each piece of some payload, and where it begins in its array.

    Args:
        wanted: numbers of records, in order.
        positions: the end of what is in the file before each record.
        sizes: the bytes of the payload of each record.
        blocks: only these blocks of it, given for one record.
    """
    for index in wanted:
        nbytes, done = sizes[index], 0
        if blocks is None and 0 < nbytes <= min(CHUNK, _layout.SEGMENT):
            segment = _layout.segment_at(positions[index], nbytes)
            yield Piece(index, 0, segment.head, segment.offset, nbytes), 0
            continue
        first = blocks.start * _layout.BLOCK if blocks else 0
        last = min(blocks.stop * _layout.BLOCK, nbytes) if blocks else nbytes
        for segment in _layout.segments(positions[index], nbytes):
            start = max(first - done, 0)
            end = min(last - done, segment.nbytes)
            for at in range(start, end, CHUNK):
                head = b"" if at else segment.head
                size = min(CHUNK, end - at)
                place = done + at
                yield Piece(index, place, head, segment.offset + at, size), place
            done += segment.nbytes


def side_by_side(
    work: Iterable[tuple[Piece, Any]],
) -> Iterator[list[tuple[Piece, Any]]]:
    """Yield pieces in lists of those that follow each other, one chunk at most."""
    together: list[tuple[Piece, Any]] = []
    end = nbytes = 0
    for item in work:
        piece = item[0]
        start = piece.offset - len(piece.head)
        nbytes += piece.nbytes
        if start != end or nbytes > CHUNK or len(together) == _MAX_TOGETHER:
            if together:
                yield together
            together, nbytes = [], piece.nbytes
        together.append(item)
        end = piece.offset + piece.nbytes
    if together:
        yield together
