# SPDX-License-Identifier: Apache-2.0
"""The values of records: read, verified, and decoded into arrays and plain data."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._dtypes import changes_numbers
from ..._memory import empty
from ...errors import CheckpointMismatchError, first_line, message
from ..format._dtypes import in_own_order
from ..format._records import CONTAINERS, Record
from ..io._boxes import box_of, shape_of
from ..io._contents import Contents
from ..io._read import dtype_of
from ._build import plain_value


def value_of(record: Record, data: np.ndarray | None) -> Any:
    """Make the value of a leaf from its record and its payload."""
    if data is None:
        return plain_value(record)
    # A copy in JAX memory: the buffer that was read belongs to NumPy.
    if record.kind == "key":
        return jax.random.wrap_key_data(jnp.array(data), impl=record.dtype)
    if record.kind == "long str":
        return data.tobytes().decode()
    if record.kind == "long bytes":
        return data.tobytes()
    if record.kind == "long int":
        return int.from_bytes(data.tobytes(), "little", signed=True)
    array = in_own_order(data, record.dtype)
    return array[()] if record.kind == "scalar" else array


class Stored:
    """An array of an open checkpoint that is read where it is asked for.

    Args:
        reader: the checkpoint.
        index: the position of the array in ``reader.records``.
    """

    def __init__(self, reader: Contents, index: int) -> None:
        self._reader, self._index = reader, index
        record = reader.records[index]
        self.shape, self.dtype = record.shape, dtype_of(record)
        self.ndim = len(self.shape)

    def read_parts(self, parts: Sequence[tuple[slice, ...]]) -> list[np.ndarray]:
        """Read parts of the array, and little beyond them.

        Args:
            parts: slices without a step, one an axis.
        """
        boxes = [box_of(part, self.shape) for part in parts]
        arrays = [empty(shape_of(box), self.dtype) for box in boxes]
        self._reader.read_into(self._index, list(zip(boxes, arrays, strict=True)))
        return arrays

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the whole array."""
        (array,) = self.read_parts([(slice(None),) * self.ndim])
        return array if dtype is None else array.astype(dtype, copy=False)


def read_values(
    reader: Contents, wanted: Sequence[int] | None = None
) -> dict[int, Any]:
    """Read, verify and decode leaves, all of them or some.

    Args:
        reader: the file.
        wanted: positions of leaves in ``reader.records``.
    """
    if wanted is None:
        wanted = range(len(reader.records))
    wanted = [i for i in wanted if reader.records[i].kind not in CONTAINERS]
    data = reader.read([i for i in wanted if reader.records[i].has_payload])
    values = {}
    for index in wanted:
        record = reader.records[index]
        try:
            # Popped, so that of an array that is converted only one copy stays.
            values[index] = value_of(record, data.pop(index, None))
        except UnicodeDecodeError:
            raise reader.damaged(f"{reader.name_of(index)}: no text") from None
    return values


def as_jax(
    values: dict[Any, Any], path: str, name: Callable[[Any], str], cast: bool
) -> dict[Any, Any]:
    """Copy NumPy arrays into JAX arrays of the same dtype.

    Raises:
        CheckpointMismatchError: an array needs 64 bits, which this process has
            switched off, and ``cast`` is False; or JAX has not its dtype.
    """
    values = {where: _native(value) for where, value in values.items()}
    narrowed = [
        f"{name(where)}: stored {value.dtype}"
        for where, value in values.items()
        if isinstance(value, np.ndarray | np.generic)
        and jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype
    ]
    if narrowed and not cast:
        raise CheckpointMismatchError(
            message(
                f"{path} holds 64-bit numbers, and this process has them off:",
                narrowed,
                "set `jax_enable_x64`, or pass `cast=True` to make them 32-bit.",
            )
        )
    refused = [
        f"{name(where)}: stored {value.dtype}, and 32 bits cannot hold its numbers"
        for where, value in values.items()
        if isinstance(value, np.ndarray | np.generic)
        and changes_numbers(value, jax.dtypes.canonicalize_dtype(value.dtype))
    ]
    arrays: dict[Any, Any] = {}
    for where, value in values.items():
        try:
            arrays[where] = _in_jax(value)
        except (TypeError, RuntimeError) as error:  # XLA's are of the second kind
            refused.append(f"{name(where)}: stored {value.dtype}: {first_line(error)}")
    if refused:
        raise CheckpointMismatchError(
            message(
                f"{path} holds what JAX does not take:",
                refused,
                'load it with `arrays="numpy"`.',
            )
        )
    return arrays


def _native(value: Any) -> Any:
    # JAX has the byte order of the machine alone; the numbers stay the same.
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value


def _in_jax(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return jnp.array(value, jax.dtypes.canonicalize_dtype(value.dtype))
    return value
