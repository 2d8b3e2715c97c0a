# SPDX-License-Identifier: Apache-2.0
"""Files of any known kind, read into plain data."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import CheckpointCorruptError, CheckpointError, first_line, message
from ..format import _layout
from ..io._input import opened
from ..io._orbax import is_of_brainopt, orbax
from ..io._parts import is_sharded
from ..io._place import Path, place_of
from ._formats import flat_format, read
from ._msgpack import load_msgpack

# The opcode PROTO and the protocol; torch also writes a zip, which begins with PK.
_PICKLES = (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")


def load_foreign(path: Path) -> Any:
    """Load a checkpoint of any known kind as plain data.

    Known are brainopt's own file, ``.npz``, ``.safetensors``, the MessagePack files of
    flax, older BrainPy and braintools, and folders of Orbax (which needs
    ``orbax-checkpoint``). Lists and tuples of flax are dicts of ``"0"``, ``"1"``, …;
    ``{"value": array}``, as Orbax writes a variable of nnx, is the array.

    Args:
        path: a file, or a folder of Orbax.

    Raises:
        CheckpointCorruptError: the file is damaged, or of no known kind.
        CheckpointIOError: the system refused.
        CheckpointError: it is a folder, and Orbax is not installed.
    """
    name = place_of(path)
    # From the surest sign to the weakest: a manifest in a folder, a suffix, the magic
    # of our own file. MessagePack of others has no magic and comes last.
    if is_sharded(name) or is_of_brainopt(name):
        return read(name)
    if os.path.isdir(name):
        return _orbax(name)
    if flat_format(name) is not None or is_own(name):
        return read(name)
    _refuse_pickle(name)
    return load_msgpack(name)


def is_own(path: Path) -> bool:
    """Whether a file begins as brainopt's own; True if it cannot be read."""
    if is_sharded(path) or is_of_brainopt(path):
        return True
    head = _head(path)
    return head is None or head == _layout.MAGIC  # load says by which name and why


def _head(path: Path) -> bytes | None:
    """The first bytes of a file; None if they cannot be read."""
    try:
        with opened(path) as file:
            head = bytearray(len(_layout.MAGIC))
            return bytes(head[: file.read_at([memoryview(head)], 0)])
    except CheckpointError:
        return None


def _refuse_pickle(path: str) -> None:
    head = _head(path) or b""
    if head[:4] == b"PK\3\4" or head[:2] in _PICKLES:
        raise CheckpointCorruptError(
            message(
                f"{path} is an archive or a pickle, as torch.save writes it; a pickle "
                "can run code, and is not read.",
                help="save it there with safetensors.torch.save_file(state_dict, "
                "'model.safetensors') or numpy.savez.",
            )
        )


def _orbax(path: str) -> Any:
    engine = orbax(path)
    try:
        tree = engine.PyTreeCheckpointer().restore(os.path.abspath(path))
    except Exception as error:  # Orbax raises whatever its parts raised
        raise CheckpointCorruptError(
            message(f"Orbax could not read the folder {path}:", [first_line(error)])
        ) from error
    return _plain(tree)


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        if tree.keys() == {"value"} and hasattr(tree["value"], "__array__"):
            return np.asarray(tree["value"])  # the box of a variable of nnx
        return {key: _plain(child) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return {str(index): _plain(child) for index, child in enumerate(tree)}
    return np.asarray(tree) if hasattr(tree, "__array__") else tree
