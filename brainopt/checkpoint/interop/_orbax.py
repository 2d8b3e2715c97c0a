# SPDX-License-Identifier: Apache-2.0
"""Saves through Orbax, the engine for storages and thousands of hosts."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import jax
import numpy as np

from ..._typing import PyTree
from ...distributed import exchange
from ...errors import CheckpointError, CheckpointIOError, first_line, message
from ..format._checksum import crc32
from ..io._orbax import ARRAYS, TREE, is_orbax, orbax
from ..io._parts import with_parts
from ..io._stream import write_records
from ..tree._leaves import ArrayLeaf
from ..tree._snapshot import Snapshot
from ..tree._spread import SpreadLeaf


def save_orbax(path: str, tree: PyTree, timeout: float) -> None:
    """Save a tree to a folder by Orbax, together with all processes of the run.

    Args:
        path: the folder.
        tree: as for `save`.
        timeout: seconds, in (0, inf), to wait for the other processes to begin; then
            Orbax waits in its own way.

    Raises:
        CheckpointError: something cannot be stored, the processes save different
            trees, or the name is that of something else than a folder of Orbax.
        CheckpointIOError: Orbax could not write.
        DistributedError: a process did not come in time; it names which.
    """
    path = os.path.abspath(path)
    engine = orbax(path)
    arrays: dict[str, Any] = {}
    snapshot, failure = None, None
    constants: dict[str, str] = {}
    total = 0
    try:
        # Orbax removes what is there before it writes.
        if os.path.lexists(path) and not is_orbax(path):
            raise CheckpointError(f"{path} is there, and is no folder of Orbax.")
        snapshot = Snapshot(tree, sharded=True)
        snapshot.block_until_ready()
        constants = snapshot.take_constants()
        total = crc32(_taken_apart(snapshot, arrays))
    except CheckpointError as error:
        failure = error
    # Before Orbax, which would wait for a process that has nothing to save.
    said = json.dumps([total, first_line(failure) if failure else "", constants])
    reports = list(map(json.loads, exchange(f"save {path}", said, timeout)))
    if failure is not None:
        raise failure
    assert snapshot is not None
    problems = [
        f"process {i}: {said}" for i, (_, said, _) in enumerate(reports) if said
    ]
    problems = problems or [
        f"process {i} saves another tree than process 0"
        for i, (total, _, _) in enumerate(reports)
        if total != reports[0][0]
    ]
    if problems:
        raise CheckpointError(message(f"{path} was not saved:", problems))
    snapshot.put_constants([constants for _, _, constants in reports])
    data = _taken_apart(snapshot, arrays)
    parts = {TREE: np.frombuffer(data, np.uint8), ARRAYS: arrays}
    try:
        with engine.Checkpointer(engine.PyTreeCheckpointHandler()) as writer:
            writer.save(path, args=engine.args.PyTreeSave(parts), force=True)
    except Exception as error:  # Orbax raises whatever its parts raised
        raise CheckpointIOError(
            message(f"Orbax could not write {path}:", [first_line(error)])
        ) from error


def _taken_apart(snapshot: Snapshot, arrays: dict[str, Any]) -> bytes:
    """Fill ``arrays`` for Orbax; return the file with the tree and all the rest."""
    arrays.clear()
    records, wrong = list(snapshot.records), []
    for index, leaf in enumerate(snapshot.leaves):
        name = snapshot.name_of(index)
        value = _for_orbax(leaf)
        if value is None:
            if isinstance(leaf, SpreadLeaf):
                wrong.append(f"{name}: on several devices of one process alone")
            continue
        if name in arrays:
            wrong.append(f"{name}: two values have this path")
        arrays[name] = value
        records[index] = records[index]._replace(spread=True)
    if wrong:
        raise CheckpointError(message("Orbax cannot store these:", wrong))
    whole = with_parts({}, records)
    first = len(whole) - len(records)
    file = io.BytesIO()

    def put(data: Any) -> None:
        file.write(data)

    write_records(
        put,
        whole,
        lambda index: snapshot.fetch(index - first),
        snapshot.metadata(),
        False,
    )
    return file.getvalue()


def _for_orbax(leaf: object) -> Any:
    """Return the array that Orbax is to hold; None where it lies beside the tree."""
    if not isinstance(leaf, ArrayLeaf | SpreadLeaf) or leaf.nbytes == 0:
        return None
    value = leaf.value
    # In a run of several processes Orbax takes what spans all of them.
    if not isinstance(value, jax.Array) or (
        jax.process_count() > 1 and value.is_fully_addressable
    ):
        return None
    is_array = leaf.kind == "array" or isinstance(leaf, SpreadLeaf)
    return value if is_array else None
