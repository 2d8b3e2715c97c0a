# SPDX-License-Identifier: Apache-2.0
"""brainopt's own file: save, load and verify."""

import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, Literal

from ...errors import CheckpointError, CheckpointIOError
from ..format._layout import NO_SEAL, Seal
from ..io._input import Readable
from ..io._sharded import open_checkpoint
from ..io._stream import write_records
from ..io._write import replace_file, write_all
from ._build import SavedNode, build
from ._snapshot import Snapshot
from ._values import as_jax, read_values


def save_snapshot(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    verify: bool = False,
    extra: Mapping[str, object] | None = None,
    helper: bool = True,
    seal: Seal = NO_SEAL,
) -> None:
    """Write a snapshot to a file, which replaces any file of that name.

    Args:
        path: the file.
        snapshot: what to write.
        verify: read the new file back before it takes the name.
        extra: optional entries of the metadata map.
        helper: whether a second thread may take checksums.
        seal: the proofs that the file keeps beyond its checksums.
    """
    # A computation that failed is an error here, and not a file that ends in the
    # middle.
    snapshot.block_until_ready()
    metadata = {**snapshot.metadata(), **(extra or {})}
    replace_file(
        path,
        lambda fd: write_records(
            partial(write_all, fd),
            snapshot.records,
            snapshot.fetch,
            metadata,
            helper,
            seal,
        ),
        (lambda path: verify_file(path, seal.key)) if verify else None,
    )


def save_to_file(file: IO[bytes], snapshot: Snapshot, seal: Seal = NO_SEAL) -> None:
    """Write a snapshot to an open binary file, in brainopt's own format.

    Raises:
        CheckpointIOError: the file took less than it was given, or refused.
    """
    snapshot.block_until_ready()

    def put(data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            done = file.write(view)
            if not done:
                raise OSError(errno.EIO, "it takes no bytes")
            view = view[done:]

    try:
        write_records(
            put, snapshot.records, snapshot.fetch, snapshot.metadata(), False, seal
        )
    except CheckpointError:
        raise
    except OSError as error:
        name = getattr(file, "name", "the file object")
        raise CheckpointIOError.of(str(name), error, "could not be written") from error


def load_file(
    path: Readable,
    arrays: Literal["numpy", "jax"] = "numpy",
    cast: bool = False,
    node: Callable[[SavedNode], object] = lambda node: node.state,
    key: bytes | None = None,
) -> Any:
    """Read a whole file into plain data, and its nodes as ``node`` makes them."""
    with open_checkpoint(path, key) as reader:
        for _ in reader.walk():  # proves the tree before its arrays are read
            pass
        values = read_values(reader)
        if arrays == "jax":
            values = as_jax(values, reader.path, reader.name_of, cast)
        return build(reader, lambda i, _: values.pop(i), node)


def verify_file(path: Readable, key: bytes | None = None) -> None:
    """Read a whole file and check every byte, in bounded memory."""
    with open_checkpoint(path, key) as reader:
        reader.verify()
