# SPDX-License-Identifier: Apache-2.0
"""Folders that Orbax wrote for brainopt, opened as if they were one file.

Orbax holds a dict of two: the arrays of JAX by their paths, and as bytes an ordinary
checkpoint file with the tree and everything else, in which those arrays are only
described. That file is checked as every other; what Orbax holds has no checksums of
numbers, so a bit that flips there is read as another number.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ...errors import CheckpointCorruptError, CheckpointError, first_line, message
from ..format._records import Malformed
from . import _boxes
from ._boxes import Box
from ._contents import Contents
from ._input import Readable, read_whole
from ._parts import tree_of
from ._place import is_remote, place_of
from ._read import Reader, dtype_of

TREE, ARRAYS = "brainopt", "arrays"
"""The names of the two parts."""
_METADATA = "_METADATA"


def orbax(path: str) -> Any:
    """Return the module of Orbax.

    Raises:
        CheckpointError: it is not installed.
    """
    try:
        return importlib.import_module("orbax.checkpoint")
    except ImportError:
        raise CheckpointError(
            message(
                f"{path} is a folder of Orbax, and Orbax is not installed.",
                help="pip install 'brainopt[orbax]'",
            )
        ) from None


def is_orbax(path: Readable) -> bool:
    """Whether a name leads to a folder of Orbax, whoever wrote it."""
    if not isinstance(path, str | os.PathLike) or is_remote(name := place_of(path)):
        return False
    return os.path.isfile(os.path.join(name, _METADATA))


def is_of_brainopt(path: Readable) -> bool:
    """Whether a name leads to a folder that Orbax wrote for brainopt."""
    if not is_orbax(path):
        return False
    name: Any = place_of(path)  # type: ignore[arg-type]
    text = read_whole(os.path.join(name, _METADATA))
    return f"('{TREE}',)".encode() in text


class OrbaxReader(Contents):
    """A folder that Orbax wrote for brainopt, opened.

    Every process reads for itself, and an array as a whole.

    Args:
        path: the folder.

    Raises:
        CheckpointCorruptError: Orbax could not read it, or the tree is damaged.
        CheckpointError: Orbax is not installed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._orbax = orbax(path)
        tree = self._restore({TREE: 0})[TREE].tobytes()
        self._manifest = Reader(tree, of_folder=True)
        try:
            parts, self.records, self._there = tree_of(self._manifest.records)
        except Malformed as reason:
            raise self.damaged(str(reason)) from None
        self._first = len(parts) + 2
        self.version = self._manifest.version
        self.metadata = self._manifest.metadata
        self.size = sum(
            os.path.getsize(os.path.join(folder, name))
            for folder, _, names in os.walk(path)
            for name in names
        )

    def close(self) -> None:
        """Close the tree."""
        self._manifest.close()

    def read(self, wanted: Iterable[int]) -> dict[int, np.ndarray]:
        """Do what `Contents.read` promises, but for the checksums."""
        wanted = sorted(wanted)
        local = [self._first + i for i in wanted if i not in self._there]
        arrays = {
            i - self._first: array for i, array in self._manifest.read(local).items()
        }
        names = {self.name_of(i): i for i in wanted if i in self._there}
        if names:
            found = self._restore({ARRAYS: dict.fromkeys(names, 0)})[ARRAYS]
            for name, index in names.items():
                arrays[index] = self._fitting(index, found[name])
        return arrays

    def read_into(self, index: int, wanted: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Do what `Contents.read_into` promises, but read the array as a whole."""
        if index not in self._there:
            self._manifest.read_into(self._first + index, wanted)
            return
        array = self.read([index])[index]
        for box, into in wanted:
            into[...] = array[_boxes.slices(box)]

    def verify(self, progress: Callable[[int], None] = lambda nbytes: None) -> None:
        """Check the tree, and that Orbax can read each array."""
        self._manifest.verify(progress)
        for index in sorted(self._there):
            progress(self.read([index])[index].nbytes)
        for _ in self.walk():
            pass

    def _fitting(self, index: int, array: Any) -> np.ndarray:
        record = self.records[index]
        array = np.asarray(array)
        if array.shape != record.shape or array.dtype != dtype_of(record):
            raise self.damaged(f"{self.name_of(index)}: {array.dtype} {array.shape}")
        return array

    def _restore(self, item: Any) -> Any:
        # No meeting of processes: each reads what it wants, when it wants it.
        own = importlib.import_module("jax").process_index()
        options = self._orbax.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"{own}"
        )
        numpy = self._orbax.RestoreArgs(restore_type=np.ndarray)
        args = self._orbax.args.PyTreeRestore(
            item=item,
            restore_args={
                part: dict.fromkeys(below, numpy) if isinstance(below, dict) else numpy
                for part, below in item.items()
            },
            partial_restore=True,
        )
        try:
            handler = self._orbax.PyTreeCheckpointHandler(
                multiprocessing_options=options
            )
            with self._orbax.Checkpointer(
                handler, multiprocessing_options=options
            ) as reader:
                return reader.restore(os.path.abspath(self.path), args=args)
        except Exception as error:  # Orbax raises whatever its parts raised
            raise CheckpointCorruptError(
                message(
                    f"Orbax could not read the folder {self.path}:", [first_line(error)]
                )
            ) from error
