# SPDX-License-Identifier: Apache-2.0
"""The closed table of element types that a checkpoint can hold.

A name that is not in the table never reaches NumPy's dtype parser, and an array
whose type is not in the table is refused when it is saved.
"""

import ml_dtypes
import numpy as np

from ...errors import CheckpointError, message

_NUMPY = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}

# One element takes whole bytes, also where the type has fewer than 8 bits: ml_dtypes
# has them unpacked in memory.
_EXTENDED = {
    "bfloat16": 2,
    "float8_e3m4": 1,
    "float8_e4m3": 1,
    "float8_e4m3b11fnuz": 1,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float6_e2m3fn": 1,
    "float6_e3m2fn": 1,
    "float4_e2m1fn": 1,
    "int1": 1,
    "int2": 1,
    "int4": 1,
    "uint1": 1,
    "uint2": 1,
    "uint4": 1,
    "complex32": 4,
    "bcomplex32": 4,
}

BIG = ":big"

ITEMSIZE: dict[str, int] = {
    **_NUMPY,
    **_EXTENDED,
    **{name + BIG: size for name, size in _NUMPY.items() if size > 1},
}
"""Bytes per element, by the name in the file.

A name that ends in ``:big`` belongs to an array that came in big-endian order: its
bytes are little-endian in the file like all others, and it is loaded as it came.
"""

_DTYPES: dict[str, np.dtype] = {
    name: np.dtype(getattr(np, name)) for name in _NUMPY if name != "bool"
}
_DTYPES["bool"] = np.dtype(np.bool_)
_DTYPES.update(
    (name, np.dtype(getattr(ml_dtypes, name)))
    for name in _EXTENDED
    if hasattr(ml_dtypes, name)
)
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def dtype_name(dtype: np.dtype) -> str | None:
    """Name a dtype as the file does, or None for one that cannot be stored."""
    name = _NAMES.get(dtype)
    if name is None:
        swapped = dtype.newbyteorder("<") if dtype.byteorder in "<>" else dtype
        little = _NAMES.get(swapped)
        name = little + BIG if little else None
    return name


def little_dtype(name: str) -> np.dtype:
    """Find the little-endian dtype of a name that is in the table.

    Raises:
        CheckpointError: the installed ``ml_dtypes`` is too old to have it.
    """
    dtype = _DTYPES.get(name.removesuffix(BIG))
    if dtype is None:
        raise CheckpointError(
            message(
                f"The dtype {name} is not in the installed ml_dtypes.",
                help="install a newer `ml_dtypes`.",
            )
        )
    return dtype.newbyteorder("<") if name in _NUMPY else dtype


def in_own_order(array: np.ndarray, name: str) -> np.ndarray:
    """Turn an array of little-endian bytes into the order it was saved from."""
    if not name.endswith(BIG):
        return array
    return array.astype(array.dtype.newbyteorder(">"))
