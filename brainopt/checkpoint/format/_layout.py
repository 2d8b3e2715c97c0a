# SPDX-License-Identifier: Apache-2.0
"""The layout of a file, byte by byte: header, segments, manifest, footer.

**How it works.** The file is a legal MessagePack stream, specified in
`docs/project/format.md`:

    header     str8 magic, then [version, flags, alignment, block]
    payload    nil padding, a bin32 head, raw bytes from a 64-byte boundary; repeated
    manifest   one map, then one small array for each record of the tree
    footer     bin8 of fixed layout: lengths, sha256, crc32

Every byte is covered: header and manifest by the sha256, payload by the crc32 of
its blocks, the footer by its own crc32, padding and heads by their exact value.

Writing needs one pass: the manifest comes after the payload, since only then are the
checksums known, and the footer comes last, so that a file that was cut has none.
Reading goes the other way: footer, manifest, then the arrays that are wanted. Where an
array begins follows from the sizes of all before it. The reader computes that place
(`segments`) and compares; no offset in a file is trusted.

**What must never happen.** A byte that no check covers. A change of the layout without
a new `VERSION`. A size or count in a file that costs memory before it was compared with
the length of the file.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ._checksum import crc32

VERSION = 1
# A cache line, and a multiple of the size of every element type.
ALIGN = 64
# The unit of checksums: a damaged megabyte can be named, and a part of an array can be
# proven without the rest. 4 bytes of crc32 for each are little.
BLOCK = 1 << 20
# Well below the 4 GiB of a bin32, and a whole number of blocks.
SEGMENT = 1 << 30

MAX_PLAIN = 1 << 16
"""Records without payload that a file may have beyond those with payload.

An array takes 64 bytes of the file at least, so its record costs a reader no more than
the file has; records without payload could cost much more.
"""
MAX_RECORD_BYTES = 1 << 14
MAX_KEY_BYTES = 4096
MAX_INLINE = 4096
MAX_TEXT = 1 << 23
MAX_PRNG_KEYS = 10_000
MAX_DEPTH = 64
MAX_NDIM = 32

# 0xd9 0x0c: a str8 of 12 bytes. CR LF, Ctrl-Z and LF at its end do not survive a
# transfer in text mode, as in PNG.
MAGIC = b"\xd9\x0cbrainopt\r\n\x1a\n"
_HEADER = struct.Struct(">14sBBHBHBBI")
HEADER_BYTES = _HEADER.size
_FOOTER = struct.Struct(">BB12sQQQQ32s14sI")
TAG_BYTES = 14
DIGEST_BYTES = 32
FOOTER_BYTES = _FOOTER.size
_END_MAGIC = b"brainopt-end"
SMALLEST = HEADER_BYTES + FOOTER_BYTES

_NIL = b"\xc0"


class Footer(NamedTuple):
    """The fields of the last 96 bytes."""

    length: int
    manifest_offset: int
    manifest_bytes: int
    records: int
    sha256: bytes
    tag: bytes = bytes(TAG_BYTES)


class Seal(NamedTuple):
    """The proofs that a file keeps beyond its checksums.

    ``digest`` asks for the sha256 of each array, ``key`` for a tag over the manifest
    that nobody without the key can make.
    """

    digest: bool = False
    key: bytes | None = None


NO_SEAL = Seal()


class Segment(NamedTuple):
    """One stretch of raw bytes, and the padding and head before it."""

    start: int
    head: bytes
    offset: int
    nbytes: int


def pack_header(version: int = VERSION) -> bytes:
    """Write the 27 bytes that open the file."""
    # fixarray of 4: uint16, uint16, a small int, uint32.
    return _HEADER.pack(MAGIC, 0x94, 0xCD, version, 0xCD, 0, ALIGN, 0xCE, BLOCK)


def header_version(header: bytes) -> int:
    """Read the version, bytes 16 and 17 of the header in every version."""
    return int.from_bytes(header[16:18], "big")


def pack_footer(footer: Footer) -> bytes:
    """Write the 96 bytes that close the file."""
    body = _FOOTER.pack(
        0xC4,
        FOOTER_BYTES - 2,
        _END_MAGIC,
        footer.length,
        footer.manifest_offset,
        footer.manifest_bytes,
        footer.records,
        footer.sha256,
        footer.tag,
        0,
    )
    return body[:-4] + crc32(body[:-4]).to_bytes(4, "big")


def unpack_footer(data: bytes) -> Footer | None:
    """Read a footer, or None where the bytes are not exactly one."""
    # Packed again and compared: marker, length, magic and crc32 are checked in one.
    _, _, _, *fields, _ = _FOOTER.unpack(data)
    footer = Footer(*fields)
    return footer if pack_footer(footer) == data else None


def digest(header: bytes, manifest: bytes | bytearray | memoryview) -> bytes:
    """Take the sha256 that the footer holds."""
    total = hashlib.sha256(header)
    total.update(manifest)
    return total.digest()


def tag(
    key: bytes | None, header: bytes, manifest: bytes | bytearray | memoryview
) -> bytes:
    """Take the keyed hash that the footer holds; zeros without a key."""
    if key is None:
        return bytes(TAG_BYTES)
    total = hashlib.blake2b(header, digest_size=TAG_BYTES, key=key)
    total.update(manifest)
    return total.digest()


def max_manifest_text(payloads: int) -> int:
    """Return how many bytes the records may have in all: 16 MiB, and 256 an array."""
    return (1 << 24) + 256 * payloads


def segments(position: int, nbytes: int) -> Iterator[Segment]:
    """Place an array after ``position``: bin32 stops at 4 GiB, a segment at 1 GiB."""
    while nbytes:
        length = min(nbytes, SEGMENT)
        segment = segment_at(position, length)
        yield segment
        position, nbytes = segment.offset + length, nbytes - length


def segment_at(position: int, nbytes: int) -> Segment:
    """Place an array of at most `SEGMENT` bytes after ``position``."""
    # 5 bytes of bin32 head right before the boundary; nil bytes fill the gap before it.
    offset = start_of(position)
    head = _NIL * (offset - 5 - position) + b"\xc6" + nbytes.to_bytes(4, "big")
    return Segment(position, head, offset, nbytes)


def start_of(position: int) -> int:
    """Find where the bytes of an array begin that is placed after ``position``."""
    return -(-(position + 5) // ALIGN) * ALIGN


def end_of(position: int, nbytes: int) -> int:
    """Find the position after an array that is placed after ``position``."""
    if 0 < nbytes <= SEGMENT:
        return start_of(position) + nbytes
    for segment in segments(position, nbytes):
        position = segment.offset + segment.nbytes
    return position


def block_count(nbytes: int) -> int:
    """Count the checksums of an array; blocks start anew in each segment."""
    whole, rest = divmod(nbytes, SEGMENT)
    return whole * (SEGMENT // BLOCK) + -(-rest // BLOCK)


def block_checksums(data: memoryview) -> bytes:
    """Take the crc32 of each 1 MiB block, big-endian, one after the other."""
    if len(data) <= BLOCK:  # the usual case, where arrays are many
        return crc32(data).to_bytes(4, "big") if len(data) else b""
    return b"".join(
        crc32(data[start : start + BLOCK]).to_bytes(4, "big")
        for start in range(0, len(data), BLOCK)
    )
