# SPDX-License-Identifier: Apache-2.0
"""The format of a file, which the suffix of its name chooses."""

import os
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

from ...errors import CheckpointError, message
from ..format._layout import NO_SEAL, Seal
from ..io._input import Readable, name_of
from ..io._place import Path
from ..tree._file import load_file, save_snapshot, save_to_file
from ..tree._snapshot import Snapshot
from ._flat import FlatFile
from ._npz import load_npz, save_npz
from ._safetensors import load_safetensors, save_safetensors

Target = Path | IO[bytes]
"""A path, an address, or a binary file to write to."""


class Format(NamedTuple):
    """A format of others, which holds flat dicts of arrays."""

    save: Callable[[Path, Snapshot, bool], None]
    load: Callable[[Readable], FlatFile]


FLAT = {
    ".npz": Format(save_npz, load_npz),
    ".safetensors": Format(save_safetensors, load_safetensors),
}


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
