# SPDX-License-Identifier: Apache-2.0
"""Save and load beside every format that users would otherwise choose, in one run.

Every save is followed until its bytes are on the medium: where a peer does not force
them there, this file does it for the peer. Ours verifies every byte that it loads;
npz does too, the others do not.

Run with: ``python -m tests.benchmarks.bench_checkpoint_peers [megabytes]``.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from brainopt import checkpoint

from .timing import interleaved, row, show

MEGABYTES = 256
REPEATS = 5


def _forced(path):
    """Force a file, or every file of a folder, to the medium."""
    files = [path] if os.path.isfile(path) else Path(path).rglob("*")
    for file in filter(os.path.isfile, files):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def _flax(path, arrays):
    from flax import serialization

    def save():
        Path(path).write_bytes(serialization.msgpack_serialize(dict(arrays)))

    return save, lambda: serialization.msgpack_restore(Path(path).read_bytes())


def _brainpy(path, arrays):
    import brainpy

    door = brainpy.checkpoints
    return (
        lambda: door.save_pytree(path, dict(arrays), verbose=False),
        lambda: door.load_pytree(path),
    )


def _safetensors(path, arrays):
    from safetensors import flax as door

    return lambda: door.save_file(arrays, path), lambda: door.load_file(path)


def _orbax(path, arrays):
    from orbax import checkpoint as orbax

    saver = orbax.PyTreeCheckpointer()
    return (
        lambda: saver.save(path, arrays, force=True),
        lambda: saver.restore(path),
    )


def _torch(path, arrays):
    import torch

    tensors = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
    return lambda: torch.save(tensors, path), lambda: torch.load(path)


def _npz(path, arrays):
    def save():
        with open(path, "wb") as file:
            np.savez(file, **{name: np.asarray(a) for name, a in arrays.items()})

    def load():
        with np.load(path) as archive:
            return dict(archive)

    return save, load


PEERS = {
    "flax": _flax,
    "brainpy": _brainpy,
    "safetensors": _safetensors,
    "orbax": _orbax,
    "torch": _torch,
    "npz": _npz,
}


def peer_rows(name, door, folder, arrays):
    """Compare with one peer; nothing slower than it is required."""
    path, ours = os.path.join(folder, f"of_{name}"), os.path.join(folder, "ours")
    save, load = door(path, arrays)

    def save_and_force():
        save()
        _forced(path)

    times = interleaved(
        lambda: checkpoint.save(ours, arrays), save_and_force, REPEATS, warmup=1
    )
    rows = [row(f"save + fsync / {name}", *times, float("inf"))]
    times = interleaved(lambda: checkpoint.load(ours), load, REPEATS, warmup=1)
    return [*rows, row(f"load + verify / {name}", *times, float("inf"))]


def main(megabytes=MEGABYTES):
    """Return the rows of all peers that are installed, and name the others."""
    folder, rows = tempfile.mkdtemp(prefix="bench-checkpoint-"), []
    count = (megabytes << 20) // 4 // 8
    arrays = {f"layer{i}": jnp.arange(count, dtype="float32") + i for i in range(8)}
    try:
        for name, door in PEERS.items():
            try:
                rows += peer_rows(name, door, folder, arrays)
            except ImportError as error:
                print(f"left out: {name}, which is not installed ({error})")
        return rows
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    show(main(*map(int, sys.argv[1:])))
