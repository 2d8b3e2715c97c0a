# SPDX-License-Identifier: Apache-2.0
"""A sharded checkpoint: a folder whose manifest names the parts that belong to it.

Manifest and parts are ordinary checkpoint files. The manifest holds the tree; of an
array that is divided over devices it has only kind, dtype and shape. A part holds
pieces of such arrays, in a dict by number of the record and first index along each
axis, as ``"12@0,32"``. All pieces of one array have one shape and lie in a grid. The
manifest names each part with the sha256 of its header and manifest, so that no part of
another save is taken for it. It is written last and replaced in one step, so that the
folder is what its manifest names: the old checkpoint, or the new one.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Sequence

from ...errors import CheckpointError, message
from ..format._records import Malformed, Record
from . import _os
from ._boxes import Box
from ._folder import Folder
from ._input import Readable
from ._place import is_remote, place_of
from ._read import Reader
from ._write import replace_file, sweep
from ._writer import NAME, Writer, writer_of

MANIFEST = "manifest.bopt"
PART = re.compile(r"part-([0-9a-f]{12})-([0-9]{1,6})\.bopt")


def piece_key(number: int, box: Box) -> str:
    """Name a piece by the number of its record and where it begins."""
    return f"{number}@{','.join(str(start) for start, _ in box)}"


def has_manifest(folder: str) -> bool:
    """Whether a folder holds a complete sharded checkpoint."""
    try:
        _os.fs.stat(os.path.join(folder, MANIFEST))
    except OSError:
        return False
    return True


def is_sharded(path: Readable) -> bool:
    """Whether a name leads to the folder of a sharded checkpoint, complete or not."""
    if not isinstance(path, str | os.PathLike):
        return False
    name = place_of(path)
    if is_remote(name) or not os.path.isdir(name):
        return False
    return any(n == MANIFEST or PART.fullmatch(n) for n in _os.fs.listdir(name))


def with_parts(parts: dict[str, bytes], tree: Sequence[Record]) -> list[Record]:
    """Return the records of a manifest: the parts, then the tree."""
    return [
        Record(None, "dict", length=2),
        Record("parts", "dict", length=len(parts)),
        *(Record(name, "bytes", value=total) for name, total in parts.items()),
        tree[0]._replace(key="tree"),
        *tree[1:],
    ]


def named_parts(records: Sequence[Record]) -> dict[str, bytes]:
    """Return the parts that a manifest names, and the sha256 of each.

    Raises:
        Malformed: it is the manifest of no folder.
    """
    heads = [(record.key, record.kind) for record in records[:2]]
    count = records[1].length if len(records) > 1 else 0
    table, tree = records[2 : 2 + count], records[2 + count : 3 + count]
    sound = all(
        r.kind == "bytes" and isinstance(r.key, str) and PART.fullmatch(r.key)
        for r in table
    )
    if heads != [(None, "dict"), ("parts", "dict")] or not sound or len(table) != count:
        raise Malformed(f"{MANIFEST} is that of no folder")
    if [record.key for record in tree] != ["tree"]:
        raise Malformed(f"{MANIFEST} is that of no folder")
    return {record.key: record.value for record in table}


def tree_of(
    records: Sequence[Record],
) -> tuple[dict[str, bytes], list[Record], set[int]]:
    """Return the parts that a manifest names, its tree, and what is elsewhere.

    Args:
        records: of a manifest; the tree begins at ``len(parts) + 2``.

    Returns:
        The sha256 of each part; the records of the tree, as if they had payload; and
        the positions of those that have none here.

    Raises:
        Malformed: it is the manifest of no folder.
    """
    parts = named_parts(records)
    tree = records[len(parts) + 2 :]
    whole = [
        record._replace(key=None if i == 0 else record.key, spread=False)
        for i, record in enumerate(tree)
    ]
    return parts, whole, {i for i, record in enumerate(tree) if record.spread}


class PartsFolder:
    """A folder in which process 0 begins and ends saves, and each writes its part.

    Args:
        path: the folder.
        guarded: whether the right to write there is held already.
    """

    def __init__(self, path: str, guarded: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._guarded = guarded
        self._writer: Writer | None = None
        self._new = False

    def begin(self) -> str:
        """Make the folder, take the right to write there, and name the save.

        The files of unfinished saves are removed.

        Raises:
            CheckpointError: it is a file or another folder, or another run saves there.
            CheckpointIOError: the system refused.
        """
        folder = Folder(self.path)
        self._refuse_other(folder)
        self._new = not os.path.isdir(self.path)
        folder.create()
        if not self._guarded:
            self._writer = writer_of(folder)
            self._writer.lock.acquire()
        sweep(self.path)
        # Parts that no manifest names are left over. Under a manifest that cannot be
        # read nothing is removed: somebody may still repair it.
        with contextlib.suppress(OSError, CheckpointError):
            kept = self._named()
            self._remove(lambda name: name not in kept)
        return secrets.token_hex(6)

    def _refuse_other(self, folder: Folder) -> None:
        if not os.path.exists(self.path):
            return
        if not os.path.isdir(self.path):
            fact = f"{self.path} is a file, and stays untouched."
            raise CheckpointError(message(fact, help="give the name of a folder."))
        others = [
            name
            for name in folder.names()
            if name not in (MANIFEST, NAME)
            and not name.startswith(".bopt-")
            and not PART.fullmatch(name)
        ]
        if others:
            fact = f"{self.path} holds other files, and stays untouched:"
            help = "give the name of a new folder."
            raise CheckpointError(message(fact, sorted(others), help))

    def _named(self) -> dict[str, bytes]:
        if not has_manifest(self.path):
            return {}
        with Reader(self.file(MANIFEST), of_folder=True) as manifest:
            try:
                return named_parts(manifest.records)
            except Malformed as reason:
                raise manifest.damaged(str(reason)) from None

    def file(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.path, name)

    def part(self, save: str, process: int) -> str:
        """Return the path of the part of a process in one save."""
        return self.file(f"part-{save}-{process}.bopt")

    def commit(
        self,
        save: str,
        fill: Callable[[int], None],
        check: Callable[[str], object] | None = None,
    ) -> None:
        """Replace the manifest, and remove the parts of other saves.

        Args:
            save: what `begin` returned.
            fill: writes the manifest to a descriptor.
            check: called with the new manifest before it takes its name.
        """
        # From here on the new save counts. What cannot be removed is removed by the
        # next.
        replace_file(self.file(MANIFEST), fill, check)
        with contextlib.suppress(OSError):
            self._remove(lambda name: not name.startswith(f"part-{save}-"))

    def discard(self, save: str) -> None:
        """Remove the parts of a save that did not come to its end.

        The manifest may name them all the same: it is in place, and only its
        durability is not confirmed.
        """
        with contextlib.suppress(OSError, CheckpointError):
            kept = self._named()
            self._remove(lambda name: f"part-{save}-" in name and name not in kept)
            if self._new and not has_manifest(self.path):
                if not self._guarded:
                    _os.fs.unlink(self.file(NAME))
                _os.fs.remove_folder(self.path)

    def end(self) -> None:
        """Let others write there."""
        if self._writer is not None:
            self._writer.lock.release()
            self._writer = None

    def remove(self) -> None:
        """Remove the checkpoint: at once for readers, then its files."""
        # The manifest first: a folder without one is no checkpoint, whatever stays in
        # it.
        with contextlib.suppress(FileNotFoundError):
            _os.fs.unlink(self.file(MANIFEST))
        with contextlib.suppress(OSError):
            sweep(self.path)
            self._remove(lambda name: True)
            _os.fs.remove_folder(self.path)

    def _remove(self, chosen: Callable[[str], bool]) -> None:
        for name in _os.fs.listdir(self.path):
            if PART.fullmatch(name) and chosen(name):
                with contextlib.suppress(FileNotFoundError):
                    _os.fs.unlink(self.file(name))
