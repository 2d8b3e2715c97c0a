# SPDX-License-Identifier: Apache-2.0
"""Comparison of values that are to be equal in several processes.

JAX takes what a process has for itself, and what it says is replicated, as a promise:
a model built from another seed in another process trains on without a word. Here each
process takes a checksum of each part that others have too, and the checksums meet.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._compat import is_key_array, key_data
from .._typing import PyTree, Values
from ..errors import DistributedError, message
from ._meeting import exchange

_HELP = (
    "build the nodes from one seed in every process, restore one checkpoint in all of "
    "them, and give each step a batch of `bo.sharding.batch`."
)


def compare(
    name: str, values: Values, timeout: float = 600.0, help: str = _HELP
) -> None:
    """Meet all processes, and compare the values that they share.

    Args:
        name: what the meeting is about; the same in every process.
        values: arrays by path, the same paths in every process.
        timeout: seconds, in (0, inf), to wait for the others.
        help: what to do where they differ.

    Raises:
        DistributedError: listing values that differ, by path and process; or a process
            did not come in time.
    """
    if jax.process_count() == 1:
        return
    own = json.dumps({path: shared_parts(value) for path, value in values.items()})
    problems = differences([json.loads(t) for t in exchange(name, own, timeout)])
    if problems:
        fact = "These values are to be equal in every process, and differ:"
        raise DistributedError(message(fact, problems, help))


def shared_parts(value: PyTree) -> dict[str, list[Any]]:
    """Return shape, dtype and checksum of each part that other processes have too.

    Args:
        value: an array. One that is on devices of this process alone is shared whole.
    """
    form = [list(np.shape(value)), str(getattr(value, "dtype", type(value).__name__))]
    value = key_data(value) if is_key_array(value) else value
    if not isinstance(value, jax.Array):
        return {"": [*form, _checksum(np.asarray(value))]}
    if value.is_fully_addressable:
        # Shard by shard: np.asarray(value) would join them, and keep the copy.
        own = {_start(shard.index): shard.data for shard in value.addressable_shards}
        return {at: [*form, _checksum(np.asarray(own[at]))] for at in sorted(own)}
    # A part that one process alone has can differ from nothing.
    holders: dict[str, set[int]] = {}
    for device, index in value.sharding.devices_indices_map(value.shape).items():
        holders.setdefault(_start(index), set()).add(device.process_index)
    own = {_start(shard.index): shard for shard in value.addressable_shards}
    return {
        start: [*form, _checksum(np.asarray(shard.data))]
        for start, shard in own.items()
        if len(holders[start]) > 1
    }


def differences(brought: Sequence[Mapping[str, Values]]) -> list[str]:
    """Return a line for each value that differs between processes.

    Args:
        brought: what `shared_parts` returned in each process, by path.
    """
    found: dict[str, None] = {}
    first: dict[tuple[str, str], tuple[int, Any]] = {}
    for process, values in enumerate(brought):
        for path in {*brought[0], *values}:
            if path not in values or path not in brought[0]:
                lacks = process if path not in values else 0
                found[f"{path}: process {lacks} has no such value"] = None
        for path, parts in values.items():
            for start, part in parts.items():
                other, expected = first.setdefault((path, start), (process, part))
                if part == expected:
                    continue
                what = (
                    "" if part[:2] == expected[:2] else f" {tuple(part[0])} {part[1]}"
                )
                found[f"{path}: process {process}{what}, unlike process {other}"] = None
    return list(found)


def _start(index: Sequence[slice]) -> str:
    return ",".join(str(part.start or 0) for part in index)


def _checksum(array: np.ndarray) -> int:
    # Of the bytes: NaN equals itself there, and every bit counts.
    plain: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return zlib.crc32(plain)
