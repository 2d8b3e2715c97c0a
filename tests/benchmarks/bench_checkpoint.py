# SPDX-License-Identifier: Apache-2.0
"""What a safe checkpoint costs beside raw files, in seconds and in memory.

Run with: ``python -m tests.benchmarks.bench_checkpoint [megabytes]``.
"""

import os
import shutil
import sys
import tempfile
import time
import zlib

import jax.numpy as jnp
import numpy as np

from brainopt import checkpoint
from brainopt.checkpoint.format import _layout

from .timing import interleaved, memory_row, row, show

MEGABYTES = 256
SAVE_REQUIRED = 1 / 0.7
LOAD_REQUIRED = 1 / 0.6
EXTRA_REQUIRED = 16 << 20


def _raw_save(path, arrays):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for array in arrays.values():
        view = memoryview(np.asarray(array).reshape(-1).view(np.uint8))
        while len(view):
            view = view[os.write(fd, view) :]
    os.fsync(fd)
    os.close(fd)


def raw_rows(folder, arrays):
    """Compare with one raw write and fsync, and with ``np.fromfile``."""
    ours, raw = os.path.join(folder, "ours"), os.path.join(folder, "raw")
    save = interleaved(
        lambda: checkpoint.save(ours, arrays),
        lambda: _raw_save(raw, arrays),
        repeats=7,
    )
    size = os.path.getsize(raw) >> 20
    rows = [
        row(f"save {size} MiB with fsync / raw write with fsync", *save, SAVE_REQUIRED)
    ]
    fast = _layout.crc32
    for crc32 in dict.fromkeys((fast, zlib.crc32)):
        _layout.crc32 = crc32
        load = interleaved(
            lambda: checkpoint.load(ours), lambda: np.fromfile(raw, np.uint8), repeats=9
        )
        name = f"load {size} MiB and verify, crc32 of {crc32.__module__} / np.fromfile"
        rows.append(row(name, *load, LOAD_REQUIRED))
    _layout.crc32 = fast
    return rows


_EXTRA = """
import jax.numpy as jnp
from brainopt import checkpoint
tree = {str(i): jnp.ones(8 << 20).block_until_ready() for i in range(8)}
checkpoint.save(path + "warm", {"w": jnp.ones(8)})
"""


def extra_row(folder):
    """Measure what saving 256 MiB adds to the memory of a process."""
    name = "extra bytes while saving 8 arrays of 32 MiB / one array + 16 MiB"
    path, allowed = os.path.join(folder, "memory"), (32 << 20) + EXTRA_REQUIRED
    return memory_row(name, path, _EXTRA, "checkpoint.save(path, tree)", allowed)


def inspect_row(folder):
    """Time ``inspect`` on a file of 1 GiB against its bound of 0.1 s."""
    path = os.path.join(folder, "large")
    checkpoint.save(path, {"w": np.broadcast_to(np.float32(1), (1 << 28,))})
    start = time.perf_counter()
    checkpoint.inspect(path)
    seconds = time.perf_counter() - start
    os.unlink(path)
    return row("inspect 1 GiB, seconds / 0.1 s", seconds, 0.1, seconds / 0.1, 1.0)


def main(megabytes=MEGABYTES):
    """Return the rows of all measurements."""
    folder = tempfile.mkdtemp(prefix="bench-checkpoint-")
    count = (megabytes << 20) // 4 // 8
    arrays = {f"layer{i}": jnp.arange(count, dtype="float32") + i for i in range(8)}
    try:
        rows = raw_rows(folder, arrays)
        rows.append(inspect_row(folder))
        rows.append(extra_row(folder))
        return rows
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    show(main(*map(int, sys.argv[1:])))
