# SPDX-License-Identifier: Apache-2.0
"""Arrays to be written to a file: their description, and their bytes on the host."""

import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.core
import numpy as np

from ..._compat import is_key_array, key_data
from ...errors import CheckpointError, first_line, message
from ..format._dtypes import BIG, dtype_name
from ..format._records import KEY_IMPLS, Record


class Unstorable(Exception):
    """A value that has no exact form in the file, with the reason."""


def refusal(wrong: list[str]) -> CheckpointError:
    """Return the error for values that cannot be stored."""
    return CheckpointError(
        message(
            "These values cannot be stored in a checkpoint:",
            wrong,
            "store arrays, None, bool, int, float, complex, str, bytes, and "
            "dict, list and tuple of them, Variables as attributes of a Node, and "
            "`bo.attach(model)` of another framework's model. No file was touched.",
        )
    )


class ArrayLeaf:
    """An array to be written, held by reference until its turn comes.

    Nothing is copied from a device before `host` is called, and nothing that `host`
    returns is kept, so a save holds one array at a time.
    """

    def __init__(self, value: object) -> None:
        self.value: Any = value
        self._held: Any = value  # its key data alone would not keep a key from donation
        self.kind = "scalar" if isinstance(value, np.generic) else "array"
        self.dtype = ""
        self._parts: list[tuple[Any, np.ndarray]] = []
        if isinstance(value, jax.Array):
            self._take_jax(value)
        else:
            self._take_numpy(value)
        self.shape = tuple(self.value.shape)
        itemsize = 4 if self.kind == "key" else self.value.dtype.itemsize
        self.nbytes = math.prod(self.shape) * itemsize

    def _take_jax(self, value: jax.Array) -> None:
        self.kind, self.dtype = what_is(value)
        if not (value.is_fully_addressable or value.is_fully_replicated):
            raise Unstorable(
                "parts of it are in other processes: save with `sharded=True`"
            )
        self.value = key_data(value) if self.kind == "key" else value

    def _take_numpy(self, value: Any) -> None:
        self.dtype = _known(value.dtype)
        if self.kind == "scalar":
            self.value = np.asarray(value)
        if value.ndim > 32:
            raise Unstorable(f"an array of {value.ndim} dimensions; 32 can be stored")

    def own(self) -> None:
        """Make the leaf safe from whatever happens to the array from now on.

        NumPy memory is copied. Of arrays on CPU devices a view is taken, which no
        donation can take away. Arrays on other devices are held by reference: they
        cannot change, and those that were donated meanwhile are refused later.

        Raises:
            Unstorable: the array was deleted, or its computation failed.
        """
        if not isinstance(self.value, jax.Array):
            self.value = self.value.copy()
            return
        try:
            if all(device.platform == "cpu" for device in self._held.devices()):
                self.block_until_ready()
                self._parts = _parts(self.value)
        except RuntimeError as error:  # another thread has donated it meanwhile
            raise Unstorable(first_line(error)) from None

    def block_until_ready(self) -> None:
        """Wait for the computation; a failed one is refused, never stored.

        Raises:
            Unstorable: the array was deleted, or its computation failed.
        """
        if isinstance(self.value, jax.Array) and not self._parts:
            try:
                jax.block_until_ready(self.value)
            except Exception as error:  # XLA raises what its callbacks raised
                first = first_line(error)
                raise Unstorable(f"its computation failed: {first}") from None

    def host(self) -> tuple[memoryview, bool]:
        """Return the little-endian bytes in C order.

        Returns:
            The bytes, and whether somebody else may write into them.

        Raises:
            Unstorable: the array was deleted, or there is no memory for it.
        """
        try:
            return self._host()
        except (RuntimeError, MemoryError) as error:  # of XLA: subclasses of the first
            first = first_line(error)
            raise Unstorable(f"it could not be copied: {first}") from error

    def _host(self) -> tuple[memoryview, bool]:
        # JAX arrays cannot change; NumPy memory belongs to the caller, who may write.
        array: Any = self.value
        shared = not isinstance(array, jax.Array)
        if isinstance(array, jax.Array):
            array = _joined(array, self._parts or _parts(array))
        if not self.dtype.endswith(BIG) and (self.kind == "key" or _is_little(array)):
            return raw(array), shared and array.flags.c_contiguous
        return raw(array.astype(array.dtype.newbyteorder("<"))), False

    def record(self, key: Hashable) -> Record:
        """Describe the array; its offset is known when it is written."""
        return Record(
            key, self.kind, dtype=self.dtype, shape=self.shape, nbytes=self.nbytes
        )


class BytesLeaf:
    """A str, bytes or int too long for its record, written as payload."""

    def __init__(self, kind: str, data: bytes) -> None:
        self.kind = kind
        self.data = data
        self.nbytes = len(data)

    def own(self) -> None:
        """Do nothing: the bytes cannot change."""

    def block_until_ready(self) -> None:
        """Do nothing: the bytes are here."""

    def host(self) -> tuple[memoryview, bool]:
        """Return the bytes, which cannot change."""
        return memoryview(self.data), False

    def record(self, key: Hashable) -> Record:
        """Describe the bytes; their offset is known when they are written."""
        return Record(key, self.kind, nbytes=self.nbytes)


def what_is(value: jax.Array) -> tuple[str, str]:
    """Return kind and dtype of an array in a checkpoint.

    Raises:
        Unstorable: it is a tracer, was deleted, or has no place in a checkpoint.
    """
    if isinstance(value, jax.core.Tracer):
        raise Unstorable("a tracer: save outside of jit, grad and scan")
    if value.is_deleted():
        raise Unstorable("its array was deleted, most likely donated to a jit")
    if not is_key_array(value):
        return "array", _known(np.dtype(value.dtype))
    impl = str(jax.random.key_impl(value))
    if impl not in KEY_IMPLS:
        raise Unstorable(f"a PRNG key of the foreign kind {impl}")
    return "key", impl


def raw(array: np.ndarray) -> memoryview:
    """Return the bytes of an array in C order."""
    plain: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(plain)


def _known(dtype: np.dtype) -> str:
    name = dtype_name(dtype)
    if name is None:
        raise Unstorable(f"the dtype {dtype} has no place in a checkpoint")
    return name


def _is_little(array: np.ndarray) -> bool:
    return array.dtype == array.dtype.newbyteorder("<")


def _parts(value: jax.Array) -> list[tuple[Any, np.ndarray]]:
    # np.asarray(value) would cache the host copy in `value` for as long as it lives.
    # A shard is a new object each time, and takes its copy with it.
    # Of replicas one is enough; each process has the whole array then.
    if value.is_fully_replicated:
        return [(..., np.asarray(value.addressable_data(0)))]
    return [
        (shard.index, np.asarray(shard.data))
        for shard in value.addressable_shards
        if shard.replica_id == 0
    ]


def _joined(value: jax.Array, parts: list[tuple[Any, np.ndarray]]) -> np.ndarray:
    if len(parts) == 1 and parts[0][1].shape == value.shape:
        return parts[0][1]
    whole = np.empty(value.shape, value.dtype)
    for index, part in parts:
        whole[index] = part
    return whole
