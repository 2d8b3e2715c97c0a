# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files written by hand, with correct checksums.

They follow `docs/project/format.md`.
Nothing here imports the writer under test, so a forged file is an outside opinion on
the format, and a malicious one reaches the parser behind the checksums.
"""

import hashlib
import struct
import zlib

import msgpack

BLOCK = 1 << 20


def header(version=1, flags=0, align=64, block=BLOCK):
    head = b"\xd9\x0c" + b"brainopt\r\n\x1a\n" + b"\x94"
    return head + struct.pack(
        ">BHBHBBI", 0xCD, version, 0xCD, flags, align, 0xCE, block
    )


def frame(value):
    body = bytes(msgpack.packb(value) or b"")
    return b"\xce" + struct.pack(">I", len(body)) + body


def table(data):
    blocks = [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]
    crcs = b"".join(struct.pack(">I", zlib.crc32(block)) for block in blocks)
    return b"\xc6" + struct.pack(">I", len(crcs)) + crcs


def place(file, data):
    """Append padding, a bin32 head and the data; return the new file and its offset."""
    if not data:
        return file, 0
    offset = (len(file) + 5 + 63) // 64 * 64
    file += b"\xc0" * (offset - 5 - len(file)) + b"\xc6" + struct.pack(">I", len(data))
    return file + data, offset


def seal(body, manifest, records, sha=None, length=None):
    """Append the manifest and a footer that fits both."""
    sha = hashlib.sha256(body[:27] + manifest).digest() if sha is None else sha
    length = len(body) + len(manifest) + 96 if length is None else length
    footer = b"\xc4\x5e" + b"brainopt-end"
    footer += struct.pack(">QQQQ", length, len(body), len(manifest), records)
    footer += sha + bytes(14)
    return body + manifest + footer + struct.pack(">I", zlib.crc32(footer))


def small_file(metadata=None, version=1):
    """A file of ``{"w": float32 [1, 2, 3], "epoch": 3}``."""
    data = struct.pack("<3f", 1, 2, 3)
    body, offset = place(header(version), data)
    manifest = frame({"library": "forge"} | (metadata or {}))
    manifest += frame([None, "dict", 2])
    manifest += frame(["w", "array", "float32", [3], offset]) + table(data)
    manifest += frame(["epoch", "int", 3])
    return seal(body, manifest, 3)


def bare_file(records, payload=b"", metadata=None):
    """A file whose manifest holds any records, packed and framed."""
    body = header() + payload
    manifest = frame(metadata or {}) + b"".join(records)
    return seal(body, manifest, len(records))
