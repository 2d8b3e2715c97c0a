# SPDX-License-Identifier: Apache-2.0
"""Records put together again: plain data of the types that were saved."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointMismatchError, first_line, message
from ..format._dtypes import in_own_order
from ..format._records import CONTAINERS, Record
from ..io._read import Reader


class SavedNode:
    """A stateful object as it stands in a file.

    Attributes:
        meta: what ``checkpoint_meta`` said when it was saved.
        state: its flat state, ``{attribute path: value}``.
    """

    def __init__(self, meta: dict[str, Any], state: dict[str, Any]) -> None:
        self.meta = meta
        self.state = state


def build(
    reader: Reader,
    leaf: Callable[[int, Record], Any],
    node: Callable[[SavedNode], Any],
) -> Any:
    """Build the tree of a file from its records.

    Args:
        reader: the file.
        leaf: makes the value of a record that is no container.
        node: makes the value of a saved node.
    """
    root: list[Any] = []
    stack: list[tuple[Record, list, list]] = []
    top: list[Any] = root
    for index, (_, record) in enumerate(reader.walk()):
        if record.kind in CONTAINERS and record.count:
            top = []
            stack.append((record, [], top))
            keys = stack[-1][1]
        else:
            empty = record.kind in CONTAINERS
            value = _closed(record, [], [], node) if empty else leaf(index, record)
            top.append(value)
            keys = stack[-1][1] if stack else []
            keys.append(record.key)
        while stack and len(stack[-1][2]) == stack[-1][0].count:
            done, keys, values = stack.pop()
            value = _closed(done, keys, values, node)
            top = stack[-1][2] if stack else root
            top.append(value)
            if stack:
                stack[-1][1].append(done.key)
    return root[0]


def _closed(
    record: Record, keys: list, values: list, node: Callable[[SavedNode], Any]
) -> Any:
    if record.kind == "list":
        return values
    if record.kind == "tuple":
        return tuple(values)
    if record.kind == "node":
        return node(SavedNode(*values))
    return dict(zip(keys, values, strict=True))


def value_of(record: Record, data: np.ndarray | None) -> Any:
    """Make the value of a leaf from its record and its payload."""
    if data is None:
        if record.kind == "int" and isinstance(record.value, bytes):
            return int.from_bytes(record.value, "little", signed=True)
        return record.value
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


def read_values(reader: Reader, wanted: Sequence[int] | None = None) -> dict[int, Any]:
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
    arrays, refused = {}, []
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
