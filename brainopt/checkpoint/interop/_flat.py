# SPDX-License-Identifier: Apache-2.0
"""Flat dicts of arrays, the only content that the formats of others can hold.

Arrays have their dotted paths as names. An ASCII text of ours goes along, where the
readers of others do not look; `_formats` says what is in it.
"""

from typing import NamedTuple

import numpy as np

from ...errors import CheckpointError, message
from ..format._records import CONTAINERS
from ..tree._leaves import ArrayLeaf, Unstorable, refusal
from ..tree._paths import is_meta, public
from ..tree._snapshot import Snapshot


class RawFile(NamedTuple):
    """What a file of another format holds.

    Attributes:
        arrays: by their dotted paths.
        text: our own, "" where another library wrote the file.
    """

    arrays: dict[str, np.ndarray]
    text: str


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
        # Metadata of nodes go into the text. Everything else that
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
