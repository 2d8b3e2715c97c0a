# SPDX-License-Identifier: Apache-2.0
"""Folders of this machine and of storages: listing, stamping, removing files."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ...errors import CheckpointError, CheckpointIOError
from . import _os
from ._place import Path, Storage, is_remote, place_of


class Folder:
    """A folder, by its path or address.

    Args:
        path: a relative one starts at the present folder of the process.
    """

    def __init__(self, path: Path) -> None:
        name = place_of(path)
        self.remote = is_remote(name)
        self.name = name.rstrip("/") if self.remote else os.path.abspath(name)
        self._storage = Storage(self.name) if self.remote else None

    def file(self, name: str) -> str:
        """Return the path or address of a file in the folder."""
        return f"{self.name}/{name}" if self.remote else os.path.join(self.name, name)

    def create(self) -> None:
        """Make the folder, if it is not there; a storage makes it with its files."""
        with self._refusals("cannot hold checkpoints"):
            if self._storage is None:
                _os.fs.make_folder(self.name)

    def names(self) -> list[str]:
        """List the names in the folder; none if there is no folder."""
        with self._refusals("cannot be read"):
            try:
                if self._storage is None:
                    return _os.fs.listdir(self.name)
                self._storage.invalidate_cache()
                found = self._storage.ls(self._storage.path, detail=False)
                return [name.rstrip("/").rpartition("/")[2] for name in found]
            except FileNotFoundError:
                return []

    def stamp(self, name: str) -> list[Any]:
        """Return what changes with the content of a file; [] where there is none."""
        try:
            if self._storage is None:
                found = _os.fs.stat(self.file(name))
                return [found.st_size, found.st_mtime_ns]
            told = self._storage.info(f"{self._storage.path}/{name}")
        except OSError:
            return []
        # Each storage has another of these; a new content changes the ones there are.
        keys = ("ETag", "etag", "mtime", "LastModified", "updated", "created")
        return [told["size"], *(str(told[key]) for key in keys if key in told)]

    def remove(self, name: str) -> None:
        """Remove a file; another may have done so."""
        with contextlib.suppress(FileNotFoundError):
            if self._storage is None:
                _os.fs.unlink(self.file(name))
            else:
                self._storage.rm_file(f"{self._storage.path}/{name}")

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointIOError.of(self.name, error, what) from error
