# SPDX-License-Identifier: Apache-2.0
"""Regular files of any format, opened and read under the errors of this wing."""

import contextlib
import os
import stat
from collections.abc import Iterator

from ...errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    message,
)
from . import _os


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Open a regular file of any format; give its descriptor and its length.

    Raises:
        CheckpointError: it is a folder or a device.
        CheckpointIOError: the system refused, here or within the block.
    """
    name = os.fspath(path)
    try:
        fd = _os.fs.open_read(name)
        try:
            found = _os.fs.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(
                    message(
                        f"{name} is no regular file.", help="give the name of a file."
                    )
                )
            yield fd, found.st_size
        finally:
            _os.fs.close(fd)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointIOError.of(name, error, "could not be read") from error


def read_whole(path: str | os.PathLike[str]) -> bytearray:
    """Read a regular file of any format; raises as `opened` does."""
    with opened(path) as (fd, size):
        data, done = bytearray(size), 0
        while done < len(data):
            count = _os.fs.read_at(fd, [memoryview(data)[done:]], done)
            if count <= 0:
                raise damaged(path, "it ended while it was read")
            done += count
        return data


def damaged(path: str | os.PathLike[str], reason: str) -> CheckpointCorruptError:
    """Say what is wrong with a file of another format."""
    return CheckpointCorruptError(
        message(
            f"{os.fspath(path)} is damaged, or not what its suffix says:",
            [reason],
            "take another copy of it.",
        )
    )
