# SPDX-License-Identifier: Apache-2.0
"""Arrays that are divided over devices, on their way into several files."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.core
import numpy as np

from ..._compat import key_data
from ...errors import first_line
from ..format._records import Record
from ..io._boxes import Box, box_of, shape_of
from ._leaves import Unstorable, raw, what_is


class Piece(NamedTuple):
    """A part of an array, and the processes that have it."""

    box: Box
    holders: tuple[int, ...]


class SpreadLeaf:
    """An array on several devices, held by reference until its pieces are written.

    No piece is copied from a device before its turn, and no process has to have all of
    them.
    """

    def __init__(self, value: jax.Array) -> None:
        self.kind, self.dtype = what_is(value)
        self.value: Any = key_data(value) if self.kind == "key" else value
        self._held = value  # the data of keys would not keep them from donation
        self.shape = tuple(self.value.shape)
        self.nbytes = self.value.nbytes
        self._views: dict[Box, np.ndarray] = {}

    def own(self) -> None:
        """Make the leaf safe from donation; see `ArrayLeaf.own`."""
        try:
            if all(device.platform == "cpu" for device in self._held.devices()):
                self.block_until_ready()
                self._views = {
                    box: np.asarray(shard.data) for box, shard in self._shards().items()
                }
        except RuntimeError as error:  # another thread has donated it meanwhile
            raise Unstorable(first_line(error)) from None

    def block_until_ready(self) -> None:
        """Wait for the computation; a failed one is refused, never stored."""
        if self._views:
            return
        try:
            jax.block_until_ready(self.value)
        except Exception as error:  # XLA raises what its callbacks raised
            first = first_line(error)
            raise Unstorable(f"its computation failed: {first}") from None

    def record(self, key: Hashable) -> Record:
        """Describe the array, whose pieces are in other files."""
        form = self.dtype, self.shape
        return Record(key, self.kind, 0, None, *form, nbytes=self.nbytes, spread=True)

    def pieces(self) -> list[Piece]:
        """Return the pieces of the whole array, the same in every process."""
        # From the sharding, which every process knows as a whole; its own shards would
        # give each process another list, and the pieces could not be dealt out.
        places: dict[Box, set[int]] = {}
        table = self.value.sharding.devices_indices_map(self.shape)
        for device, index in table.items():
            box = box_of(index, self.shape)
            places.setdefault(box, set()).add(device.process_index)
        return [Piece(box, tuple(sorted(places[box]))) for box in sorted(places)]

    def piece_record(self, key: str, box: Box) -> Record:
        """Describe one piece as an array of its own."""
        dtype = "uint32" if self.kind == "key" else self.dtype
        shape, itemsize = shape_of(box), self.value.dtype.itemsize
        nbytes = math.prod(shape) * itemsize
        return Record(key, "array", dtype=dtype, shape=shape, nbytes=nbytes)

    def host(self, box: Box) -> tuple[memoryview, bool]:
        """Return the bytes of a piece that this process has; see `ArrayLeaf.host`.

        Raises:
            Unstorable: the array was deleted, or there is no memory for it.
        """
        try:
            view = self._views.get(box)
            if view is None:
                view = np.asarray(self._shards()[box].data)
            return raw(view.astype(view.dtype.newbyteorder("<"), copy=False)), False
        except (RuntimeError, MemoryError) as error:  # of XLA: subclasses of the first
            first = first_line(error)
            raise Unstorable(f"it could not be copied: {first}") from error

    def _shards(self) -> dict[Box, Any]:
        return {
            box_of(shard.index, self.shape): shard
            for shard in self.value.addressable_shards
        }


def is_spread(value: object) -> bool:
    """Whether a value is an array on several devices."""
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
        return False
    return len(value.sharding.device_set) > 1 and value.size > 0
