# SPDX-License-Identifier: Apache-2.0
"""The ``.safetensors`` format, read and written without its library.

The format has no checksum: damage to the numbers goes unseen. Keep brainopt's own file
where that matters, and write this one to hand arrays to others.

Source: the format section of the safetensors README.
Differs: keys that repeat are refused.
"""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..format._dtypes import ITEMSIZE, little_dtype
from ..io._input import Readable, damaged, read_whole
from ..io._write import replace_file, write_all
from ..tree._snapshot import Snapshot
from ._flat import RawFile, flattened, host_array, refuse

_CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
_NAMES = {name: code for code, name in _CODES.items()}
_MAX_HEADER = 100_000_000
_OURS = "brainopt"  # among the texts in ``__metadata__``


def save_safetensors(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    text: str = "",
    check: Callable[[str], object] | None = None,
) -> None:
    """Write the arrays of a snapshot as ``.safetensors``.

    Args:
        path: the file.
        snapshot: arrays alone.
        text: ours, that goes along.
        check: reads the new file back before it takes the name.
    """
    flat = flattened(snapshot, ".safetensors")
    wrong = [
        f"{name}: dtype {leaf.dtype}"
        for name, leaf in flat.items()
        if leaf.dtype not in _NAMES
    ]
    wrong += [f"{name}: a reserved name" for name in flat if name == "__metadata__"]
    table: dict[str, Any] = {}
    if text:
        table["__metadata__"] = {_OURS: text}
    position = 0
    for name, leaf in flat.items():
        end = position + leaf.nbytes
        code = _NAMES.get(leaf.dtype)
        table[name] = {
            "dtype": code,
            "shape": leaf.shape,
            "data_offsets": [position, end],
        }
        position = end
    header = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    # Spaces, so that the numbers begin at a multiple of 8.
    header += b" " * (-len(header) % 8)
    if len(header) > _MAX_HEADER:
        wrong.append("a header of more than 100 MB")
    refuse(wrong, ".safetensors")
    snapshot.block_until_ready()

    def fill(fd: int) -> None:
        write_all(fd, len(header).to_bytes(8, "little") + header)
        for name, leaf in flat.items():
            write_all(fd, host_array(name, leaf).data)

    replace_file(path, fill, check)


def load_safetensors(path: Readable) -> RawFile:
    """Read a ``.safetensors`` file.

    Raises:
        CheckpointCorruptError: its header or its length is damaged.
    """
    data = read_whole(path)
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(len(data) - 8, _MAX_HEADER):
            raise ValueError("its header is longer than the file, or than 100 MB")
        # A dict keeps the last of equal keys, so they are looked for in the pairs.
        table = json.loads(data[8 : 8 + size], object_pairs_hook=_unique)
        texts = table.pop("__metadata__", None) or {}
        text = texts.get(_OURS, "")
        if not isinstance(text, str):
            raise ValueError(f"{_OURS} in its metadata is no text")
        return RawFile(_arrays(table, memoryview(data)[8 + size :]), text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, str(error) or type(error).__name__) from None


def _beyond_truth(piece: memoryview) -> bool:
    return bool(np.frombuffer(piece, np.uint8).max(initial=0) > 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header has a name twice")
    return table


def _arrays(table: dict[str, Any], payload: memoryview) -> dict[str, np.ndarray]:
    # In the order of their bytes each must begin where the one before ended: no two
    # overlap, and no byte is hidden between them.
    arrays, covered = {}, 0
    ordered = sorted(table.items(), key=lambda item: item[1]["data_offsets"])
    for name, entry in ordered:
        start, end = entry["data_offsets"]
        dtype, shape = _CODES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise ValueError(f"{name} has the unknown dtype {str(entry['dtype'])[:40]}")
        numbers = [start, end, *shape]
        if len(shape) > 32 or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f"{name} has an impossible shape or place")
        if end - start != math.prod(shape) * ITEMSIZE[dtype] or start != covered:
            raise ValueError(f"{name} is not where its header says, or of that length")
        piece = payload[start:end]
        if len(piece) != end - start or (dtype == "bool" and _beyond_truth(piece)):
            raise ValueError(f"{name} is cut, or no truth values")
        covered = end
        flat = np.frombuffer(piece, little_dtype(dtype))
        arrays[name] = flat.reshape(shape).copy()
    if covered != len(payload):
        raise ValueError("there are bytes after its last array")
    return {name: arrays[name] for name in table}
