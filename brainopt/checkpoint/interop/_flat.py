# SPDX-License-Identifier: Apache-2.0
"""Flat dicts of arrays, which is all that the formats of others can hold."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    message,
)
from ..format._records import CONTAINERS
from ..io._os import fs
from ..tree._leaves import ArrayLeaf, Unstorable, refusal
from ..tree._paths import is_meta, public
from ..tree._snapshot import Snapshot


def flattened(snapshot: Snapshot, suffix: str) -> dict[str, ArrayLeaf]:
    """Give the arrays of a snapshot by their dotted paths.

    Raises:
        CheckpointError: there is something else than arrays, or two arrays have one
            dotted path.
    """
    flat: dict[str, ArrayLeaf] = {}
    nodes, wrong = snapshot.nodes, []
    for path, (record, leaf) in zip(snapshot.paths, snapshot.items, strict=True):
        name = public(path, nodes)
        if record.kind in CONTAINERS or is_meta(path, nodes):
            continue
        elif not isinstance(leaf, ArrayLeaf) or record.kind != "array":
            wrong.append(f"{name or 'the value itself'}: a {record.kind}")
        elif name in flat:
            wrong.append(f"{name}: two arrays have this path")
        else:
            flat[name] = leaf
    refuse(wrong, suffix)
    return flat


def refuse(wrong: list[str], suffix: str) -> None:
    """Raise for what a format cannot hold, if there is anything."""
    if wrong:
        raise CheckpointError(
            message(
                f"A {suffix} file cannot hold these values:",
                wrong,
                "store them in brainopt's own format: choose another suffix.",
            )
        )


def host_array(name: str, leaf: ArrayLeaf) -> np.ndarray:
    """Fetch an array in C order and little-endian bytes, as unsigned bytes.

    Raises:
        CheckpointError: it could not be copied from its device.
    """
    try:
        data, shared = leaf.host()
    except Unstorable as reason:
        raise refusal([f"{name}: {reason}"]) from reason
    array = np.frombuffer(data, np.uint8)
    return array.copy() if shared else array


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Open a regular file of any format; give its descriptor and its length.

    Raises:
        CheckpointError: it is a folder or a device.
        CheckpointIOError: the system refused, here or within the block.
    """
    name = os.fspath(path)
    try:
        fd = fs.open_read(name)
        try:
            found = fs.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(
                    message(
                        f"{name} is no regular file.", help="give the name of a file."
                    )
                )
            yield fd, found.st_size
        finally:
            fs.close(fd)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointIOError.of(name, error, "could not be read") from error


def read_whole(path: str | os.PathLike[str]) -> bytearray:
    """Read a regular file of any format; raises as `opened` does."""
    with opened(path) as (fd, size):
        data, done = bytearray(size), 0
        while done < len(data):
            count = fs.read_at(fd, [memoryview(data)[done:]], done)
            if count <= 0:
                raise damaged(path, "it ended while it was read")
            done += count
        return data


def damaged(path: Any, reason: str) -> CheckpointCorruptError:
    """Say what is wrong with a file of another format."""
    return CheckpointCorruptError(
        message(
            f"{os.fspath(path)} is damaged, or not what its suffix says:",
            [reason],
            "take another copy of it.",
        )
    )
