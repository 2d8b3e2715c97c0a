# SPDX-License-Identifier: Apache-2.0
"""NumPy's ``.npz``: a zip of arrays, whose crc32 the zip itself keeps and checks.

Source: NumPy enhancement proposal 1 (the ``.npy`` format), versions 1.0 and 2.0.
Differs: object arrays, structured types and NumPy's dtype strings are not parsed; a
header must have exactly the form that NumPy writes.
"""

import io
import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ...errors import CheckpointCorruptError
from ..format._dtypes import ITEMSIZE, little_dtype
from ..io._input import Input, Readable, damaged, opened
from ..io._write import replace_file, write_all
from ..tree._snapshot import Snapshot
from ._flat import RawFile, flattened, host_array, refuse

_CODES = {
    "|b1": "bool",
    "|i1": "int8",
    "|u1": "uint8",
    **{f"<i{size}": f"int{8 * size}" for size in (2, 4, 8)},
    **{f"<u{size}": f"uint{8 * size}" for size in (2, 4, 8)},
    **{f"<f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    "<c8": "complex64",
    "<c16": "complex128",
}
_CODES |= {
    f">{code[1:]}": f"{name}:big" for code, name in _CODES.items() if code[0] == "<"
}
_NAMES = {name: code for code, name in _CODES.items()}
# The header is a Python literal, which NumPy parses. Here it must match this form, the
# one that NumPy writes, and nothing is parsed.
_HEADER = re.compile(
    r"\{'descr': '([<>|][biufc]\d{1,2})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,19}, ?)*\d{0,19}),?\), \} *\n"
)
_MAX_MEMBERS = 50_000
_MEMBER_BYTES = 200  # of an array of one number, headers and all
_MAX_NAME = 65_000
_MAX_COMMENT = 65_000  # of a zip, and of each of its members
_OURS = b"brainopt:"
# A zip may unpack to a thousand times its size. What NumPy and we write is stored as it
# is; small compressed files are read, too.
_SLACK = 32 << 20
_MAX_END = (1 << 16) + 22


class _Sink(io.RawIOBase):
    """A descriptor as a file that only grows, which is all a zip needs."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        write_all(self._fd, data)
        return len(data)


class _Window(io.RawIOBase):
    """An input as a file to read from, which holds none of it in memory."""

    def __init__(self, file: Input) -> None:
        self._file, self._size, self._position = file, file.size, 0
        self.refused: OSError | None = None  # zipfile keeps some errors to itself

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._position, self._size)[whence]
        if base + offset < 0:
            raise OSError("a place before the beginning of the file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(self._size - self._position, 0)]
        try:
            count = self._file.read_at([view], self._position) if len(view) else 0
        except OSError as error:
            self.refused = error
            raise
        self._position += count
        return count


def save_npz(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    text: str = "",
    check: Callable[[str], object] | None = None,
) -> None:
    """Write the arrays of a snapshot as an uncompressed ``.npz``.

    Args:
        path: the file.
        snapshot: arrays alone.
        text: ours, that goes along.
        check: reads the new file back before it takes the name.
    """
    flat = flattened(snapshot, ".npz")
    wrong = [
        f"{name}: dtype {leaf.dtype}"
        for name, leaf in flat.items()
        if leaf.dtype.removesuffix(":big") not in _NAMES
    ]
    for name in flat:
        if "\0" in name or len(name.encode()) > _MAX_NAME:
            wrong.append(
                f"{name[:80]!r}: a name with a NUL, or of more than 65,000 bytes"
            )
    # NumPy's reader shows members, and no comments: the text goes into these, piece
    # by piece, first into that of the archive.
    whole = _OURS + text.encode() if text else b""
    pieces = [whole[i : i + _MAX_COMMENT] for i in range(0, len(whole), _MAX_COMMENT)]
    comments = iter(pieces[1:])
    if len(pieces) > 1 + len(flat):
        wrong.append(f"metadata of nodes of {len(text):,} bytes beside few arrays")
    refuse(wrong, ".npz")
    snapshot.block_until_ready()

    def fill(fd: int) -> None:
        with zipfile.ZipFile(_Sink(fd), "w", zipfile.ZIP_STORED) as archive:
            archive.comment = pieces[0] if pieces else b""
            for name, leaf in flat.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                member.comment = next(comments, b"")
                # The sizes are not known when the head of a member is written; without
                # zip64 a member of 2 GiB would fail after its bytes were written.
                with archive.open(member, "w", force_zip64=True) as file:
                    code = _NAMES[leaf.dtype.removesuffix(":big")]
                    file.write(_header(code, leaf.shape))
                    file.write(host_array(name, leaf).data)

    replace_file(path, fill, check)


def load_npz(path: Readable) -> RawFile:
    """Read an ``.npz`` of plain numeric arrays.

    Raises:
        CheckpointCorruptError: it is damaged, or holds something else.
    """
    with opened(path) as file:
        window = _Window(file)
        try:
            return _load(path, io.BufferedReader(window), file.size)
        except CheckpointCorruptError:
            if window.refused is not None:
                raise window.refused from None
            raise


def _load(path: Readable, file: io.BufferedReader, size: int) -> RawFile:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {member.filename.removesuffix(".npy") for member in members}
            if len(names) < len(members):
                raise ValueError("two of its members have one name")
            if len(members) > _MAX_MEMBERS + size // _MEMBER_BYTES:
                raise ValueError("it has too many members for its length")
            # 0xFFFF stands for "see the zip64 record".
            if _entries(file, size) not in (len(members), 0xFFFF):
                raise ValueError("its directory has lost or gained members")
            declared = sum(member.file_size for member in members)
            if declared > size + _SLACK:
                raise ValueError(f"it unpacks to {declared:,} bytes, which is too much")
            arrays = {
                member.filename.removesuffix(".npy"): _parsed(archive, member)
                for member in members
            }
            return RawFile(arrays, _text(archive))
    except (
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        struct.error,
    ) as error:
        raise damaged(path, str(error)) from None
    except (NotImplementedError, RuntimeError, KeyError, OSError) as error:
        raise damaged(path, f"a zip of another kind ({error})") from None


def _text(archive: zipfile.ZipFile) -> str:
    if not archive.comment.startswith(_OURS):
        return ""
    rest = (member.comment for member in archive.infolist())
    return b"".join((archive.comment, *rest))[len(_OURS) :].decode()


def _entries(file: io.BufferedReader, size: int) -> int:
    # A damaged length within the directory can swallow the members that follow.
    file.seek(max(size - _MAX_END, 0))
    data = file.read()
    end = data.rfind(b"PK\5\6")
    return int.from_bytes(data[end + 10 : end + 12], "little")


def _parsed(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        data = bytearray(member.file_size)
        # One byte more is asked for: at the end zipfile compares the crc32.
        if cast(io.BufferedIOBase, file).readinto(data) != len(data) or file.read(1):
            raise ValueError(f"{member.filename} has not the size it declares")
    if data[:6] != b"\x93NUMPY" or bytes(data[6:8]) not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(f"{member.filename} is no array")
    size = 2 if data[6] == 1 else 4
    start = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    match = _HEADER.fullmatch(data[8 + size : min(start, 10_000)].decode("latin1"))
    if match is None or match[1] not in _CODES:
        raise ValueError(f"{member.filename} is no plain numeric array")
    name = _CODES[match[1]]
    shape = tuple(int(n) for n in match[3].replace(" ", "").split(",") if n)
    if len(shape) > 32 or math.prod(shape) * ITEMSIZE[name] != len(data) - start:
        raise ValueError(f"{member.filename} has not the length of its shape")
    dtype = little_dtype(name)
    dtype = dtype.newbyteorder(">") if name.endswith(":big") else dtype
    order = "F" if match[2] == "True" else "C"
    flat = np.frombuffer(data, dtype, offset=start)
    return np.ascontiguousarray(flat.reshape(shape, order=order)).reshape(shape)


def _header(code: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{code}', 'fortran_order': False, 'shape': {shape!r}, }}"
    # Magic, version and length are 10 bytes, the newline one: together a multiple of
    # 64.
    padding = -(10 + len(text) + 1) % 64
    body = text.encode() + b" " * padding + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
