# SPDX-License-Identifier: Apache-2.0
"""Something to read at any place: a regular file, an address, or bytes in memory."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

from ...errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    message,
)
from . import _os
from ._place import Storage, is_remote, place_of

Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A path, an address, bytes, or a binary file that is read to its end."""


class Input(Protocol):
    """Bytes of known number that may be read at any place, by several threads."""

    name: str
    size: int

    def read_at(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Fill buffers from an offset; may read less than asked."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class _File:
    """A regular file of this machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = _os.fs.open_read(name)
        try:
            found = _os.fs.fstat(self._fd)
            # A FIFO or device has no size and cannot be read at any place.
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(
                    message(
                        f"{name} is no regular file.", help="give the name of a file."
                    )
                )
        except BaseException:
            self.close()
            raise
        self.size = found.st_size

    def read_at(self, buffers: Sequence[memoryview], offset: int) -> int:
        return _os.fs.read_at(self._fd, buffers, offset)

    def close(self) -> None:
        _os.fs.close(self._fd)


class _Memory:
    """Bytes that are here already."""

    name = "the bytes"

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def read_at(self, buffers: Sequence[memoryview], offset: int) -> int:
        done = 0
        for buffer in buffers:
            part = self._data[offset + done : offset + done + len(buffer)]
            buffer[: len(part)] = part
            done += len(part)
        return done

    def close(self) -> None:
        self._data.release()


class _Remote:
    """An object in a storage, of which only the ranges that are read are fetched."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._storage = Storage(name)
        # fsspec keeps listings; another process may have replaced the object since.
        self._storage.invalidate_cache()
        found = self._storage.info(self._storage.path)
        if found.get("type") != "file":
            raise CheckpointError(
                message(f"{name} is no file.", help="give the name of a file.")
            )
        self.size = int(found["size"])

    def read_at(self, buffers: Sequence[memoryview], offset: int) -> int:
        # One request for all buffers: each costs a round trip.
        end = min(offset + sum(map(len, buffers)), self.size)
        if end <= offset:
            return 0
        data = self._storage.cat_file(self._storage.path, start=offset, end=end)
        return _Memory(data).read_at(buffers, 0)

    def close(self) -> None:
        return None


def open_input(source: Readable) -> Input:
    """Open a source for reading; errors of the system are raised as they are."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _Memory(source)
    if hasattr(source, "read"):
        data = source.read()  # type: ignore[union-attr]
        if not isinstance(data, bytes | bytearray | memoryview):
            raise CheckpointError(
                message("The file gives text.", help="open it in binary mode.")
            )
        return _Memory(data)
    name = place_of(source)  # type: ignore[arg-type]
    return _Remote(name) if is_remote(name) else _File(name)


def name_of(source: Readable) -> str:
    """Return the name of a source, for errors and for its suffix."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _Memory.name
    if hasattr(source, "read"):
        name = getattr(source, "name", "")
        return name if isinstance(name, str) and name else "the file object"
    return place_of(source)  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(source: Readable) -> Iterator[Input]:
    """Open a file of any format for a block.

    Raises:
        CheckpointError: it is a folder or a device.
        CheckpointIOError: the system refused, here or within the block.
    """
    try:
        file = open_input(source)
        try:
            yield file
        finally:
            file.close()
    except CheckpointError:
        raise
    except OSError as error:
        name = name_of(source)
        raise CheckpointIOError.of(name, error, "could not be read") from error


def read_whole(source: Readable) -> bytearray:
    """Read a file of any format; raises as `opened` does."""
    with opened(source) as file:
        data, done = bytearray(file.size), 0
        while done < len(data):
            count = file.read_at([memoryview(data)[done:]], done)
            if count <= 0:
                raise damaged(source, "it ended while it was read")
            done += count
        return data


def damaged(source: Readable, reason: str) -> CheckpointCorruptError:
    """Return the error for damage of a file of another format."""
    return CheckpointCorruptError(
        message(
            f"{name_of(source)} is damaged, or not what its suffix says:",
            [reason],
            "take another copy of it.",
        )
    )
