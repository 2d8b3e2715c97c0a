# SPDX-License-Identifier: Apache-2.0
"""Flat dicts of arrays, the only content that the formats of others can hold.

**How it works.** Arrays have their dotted paths as names. What must be equal when a
node is restored, its metadata, goes along where the readers of others do not look: as
the text of a file of brainopt's own, which proves itself by its checksums.
"""

import base64
import binascii
import io
from typing import Any, NamedTuple

import numpy as np

from ...errors import CheckpointCorruptError, CheckpointError, first_line, message
from ..format._records import CONTAINERS
from ..tree._file import load_file, save_to_file
from ..tree._leaves import ArrayLeaf, Unstorable, refusal
from ..tree._paths import is_meta, public
from ..tree._protocol import NOTES
from ..tree._snapshot import Snapshot


class FlatFile(NamedTuple):
    """What a file of another format holds.

    Attributes:
        arrays: by their dotted paths.
        metas: the metadata of each node that was saved, by its dotted path; empty where
            another library wrote the file.
    """

    arrays: dict[str, np.ndarray]
    metas: dict[str, dict[str, Any]]


def flattened(snapshot: Snapshot, suffix: str) -> dict[str, ArrayLeaf]:
    """Give the arrays of a snapshot by their dotted paths.

    Raises:
        CheckpointError: there is something else than arrays, or two arrays have one
            dotted path.
    """
    flat: dict[str, ArrayLeaf] = {}
    nodes, wrong = snapshot.nodes, []
    entries = zip(snapshot.paths, snapshot.records, snapshot.leaves, strict=True)
    for path, record, leaf in entries:
        # Metadata of nodes go beside the arrays (`text_of_metas`). Everything else that
        # does not fit is refused.
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
    """Raise CheckpointError for values that a format cannot hold, if any."""
    if wrong:
        raise CheckpointError(
            message(
                f"A {suffix} file cannot hold these values:",
                wrong,
                "store them in brainopt's own format by another suffix, or leave them "
                "out, on the command line with --skip.",
            )
        )


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


def host_array(name: str, leaf: ArrayLeaf) -> np.ndarray:
    """Fetch an array in C order and little-endian bytes, as unsigned bytes.

    Raises:
        CheckpointError: it could not be copied from its device.
    """
    try:
        data, shared = leaf.host()
    except Unstorable as reason:
        raise refusal([f"{name}: {reason}"]) from reason
    # Copied if the caller may write into it: checksum and file would differ.
    array = np.frombuffer(data, np.uint8)
    return array.copy() if shared else array
