# SPDX-License-Identifier: Apache-2.0
"""The format of a file, which the suffix of its name chooses.

**How it works.** Formats of others hold flat dicts of arrays. What must be equal when a
node is restored, its metadata, goes along in the text that they have room for: as a
file of brainopt's own, which proves itself by its checksums.
"""

import base64
import binascii
import io
import os
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

from ...errors import CheckpointCorruptError, CheckpointError, first_line, message
from ..format._layout import NO_SEAL, Seal
from ..io._input import Readable, damaged, name_of
from ..io._place import Path
from ..tree._file import load_file, save_snapshot, save_to_file
from ..tree._paths import public
from ..tree._protocol import NOTES
from ..tree._snapshot import Snapshot
from ._flat import RawFile
from ._npz import load_npz, save_npz
from ._safetensors import load_safetensors, save_safetensors

Target = Path | IO[bytes]
"""A path, an address, or a binary file to write to."""


class FlatFile(NamedTuple):
    """What a file of another format holds.

    Attributes:
        arrays: by their dotted paths.
        metas: the metadata of each node that was saved, by its dotted path; empty where
            another library wrote the file.
    """

    arrays: dict[str, Any]
    metas: dict[str, dict[str, Any]]


class Format(NamedTuple):
    """A format of others, which holds flat dicts of arrays, and a text.

    Attributes:
        put: writes the arrays of a snapshot and a text, and checks the new file.
        get: reads them.
    """

    put: Callable[[Path, Snapshot, str, Callable[[str], object] | None], None]
    get: Callable[[Readable], RawFile]

    def save(self, path: Path, snapshot: Snapshot, verify: bool = False) -> None:
        """Write a snapshot, and read the new file back if asked to."""
        text = text_of_metas(snapshot)
        self.put(path, snapshot, text, self.load if verify else None)

    def load(self, path: Readable) -> FlatFile:
        """Read a file.

        Raises:
            CheckpointCorruptError: it is damaged.
        """
        arrays, text = self.get(path)
        try:
            return FlatFile(arrays, metas_of_text(text))
        except ValueError as error:
            raise damaged(path, str(error)) from None


FLAT = {
    ".npz": Format(save_npz, load_npz),
    ".safetensors": Format(save_safetensors, load_safetensors),
}


def text_of_metas(snapshot: Snapshot) -> str:
    """Write the metadata of all nodes as ASCII; empty if there are none."""
    # Notes repeat numbers of the state, and are not compared.
    metas = {
        public(path, snapshot.nodes): {k: v for k, v in meta.items() if k != NOTES}
        for path, meta in snapshot.metas.items()
    }
    if not any(metas.values()):
        return ""
    file = io.BytesIO()
    save_to_file(file, Snapshot(metas))
    return base64.b64encode(file.getvalue()).decode()


def metas_of_text(text: str) -> dict[str, dict[str, Any]]:
    """Read what `text_of_metas` wrote.

    Raises:
        ValueError: it is damaged, or no such text.
        CheckpointVersionError: a newer brainopt wrote it.
    """
    if not text:
        return {}
    try:
        metas = load_file(base64.b64decode(text, validate=True))
    except (binascii.Error, CheckpointCorruptError) as error:
        said = first_line(error)
        raise ValueError(f"the metadata of its nodes are damaged ({said})") from None
    if not isinstance(metas, dict) or not all(
        isinstance(m, dict) for m in metas.values()
    ):
        raise ValueError("the metadata of its nodes are no tables")
    return metas


def suffix_of(path: Readable) -> str:
    """Return the end of a name that chooses the format, as ``.npz``."""
    return os.path.splitext(name_of(path))[1].lower()


def flat_format(path: Readable) -> Format | None:
    """Return the format of others that a name has; None for brainopt's own."""
    return FLAT.get(suffix_of(path))


def own_only(path: Target | Readable, lack: str) -> None:
    """Refuse a name of a flat format, which lacks something."""
    if flat_format(path) is not None:
        raise CheckpointError(
            message(
                f"A {suffix_of(path)} file {lack}.",
                help="brainopt's own format does: choose another suffix.",
            )
        )


def write(
    path: Target,
    snapshot: Snapshot,
    verify: bool = False,
    helper: bool = True,
    seal: Seal = NO_SEAL,
) -> None:
    """Write a snapshot in the format that the suffix chooses.

    Args:
        path: the file.
        snapshot: what to write.
        verify: read the new file back before it takes the name.
        helper: whether a second thread may take checksums.
        seal: the proofs that the file keeps beyond its checksums.
    """
    # A path object may have a method `write`, too.
    if not isinstance(path, str | os.PathLike) and hasattr(path, "write"):
        save_to_file(path, snapshot, seal=seal)
        return
    place = cast(Path, path)
    # Any suffix that is not of another format means our own, as ``.ckpt`` or none.
    flat = flat_format(place)
    if flat is None:
        save_snapshot(place, snapshot, verify, helper=helper, seal=seal)
    else:
        flat.save(place, snapshot, verify)


def read(path: Readable) -> Any:
    """Read a file as plain data, by its suffix."""
    flat = flat_format(path)
    return load_file(path) if flat is None else flat.load(path).arrays
