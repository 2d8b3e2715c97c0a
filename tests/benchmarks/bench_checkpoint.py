# SPDX-License-Identifier: Apache-2.0
"""What a safe checkpoint costs beside raw files, and beside the peers that are here.

Run with: ``python -m tests.benchmarks.bench_checkpoint [megabytes]``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from brainopt import checkpoint

from .timing import interleaved, row

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


def _safetensors(path, arrays):
    from safetensors import flax as door

    return (
        lambda: door.save_file(arrays, path),
        lambda: door.load_file(path),
    )


def _flax(path, arrays):
    from flax import serialization

    def save():
        Path(path).write_bytes(serialization.msgpack_serialize(dict(arrays)))

    return save, lambda: serialization.msgpack_restore(Path(path).read_bytes())


def _orbax(path, arrays):
    from orbax import checkpoint as orbax

    saver = orbax.PyTreeCheckpointer()
    return (
        lambda: saver.save(path, arrays, force=True),
        lambda: saver.restore(path),
    )


def _npz(path, arrays):
    def save():
        with open(path, "wb") as file:
            np.savez(
                file, **{name: np.asarray(array) for name, array in arrays.items()}
            )

    def load():
        with np.load(path) as archive:
            return dict(archive)

    return save, load


def _torch(path, arrays):
    import torch

    tensors = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
    return lambda: torch.save(tensors, path), lambda: torch.load(path)


PEERS = {
    "flax": _flax,
    "safetensors": _safetensors,
    "orbax": _orbax,
    "npz": _npz,
    "torch": _torch,
}


def raw_rows(folder, arrays):
    """Compare with one raw write and fsync, and with ``np.fromfile``."""
    ours, raw = os.path.join(folder, "ours"), os.path.join(folder, "raw")
    save = interleaved(
        lambda: checkpoint.save(ours, arrays),
        lambda: _raw_save(raw, arrays),
        repeats=7,
    )
    load = interleaved(
        lambda: checkpoint.load(ours), lambda: np.fromfile(raw, np.uint8), repeats=9
    )
    size = os.path.getsize(raw) >> 20
    return [
        row(f"save {size} MiB with fsync / raw write with fsync", *save, SAVE_REQUIRED),
        row(f"load {size} MiB and verify / np.fromfile", *load, LOAD_REQUIRED),
    ]


def peer_rows(folder, arrays):
    """Compare with every peer that can be imported; nothing slower is required."""
    rows, ours = [], os.path.join(folder, "ours")
    for name, door in PEERS.items():
        try:
            save, load = door(os.path.join(folder, f"of_{name}"), arrays)
        except ImportError:
            continue
        times = interleaved(lambda: checkpoint.save(ours, arrays), save, 3, warmup=1)
        rows.append(row(f"save / {name}", *times, float("inf")))
        times = interleaved(lambda: checkpoint.load(ours), load, 3, warmup=1)
        rows.append(row(f"load / {name}", *times, float("inf")))
    return rows


_EXTRA = """
import sys
import jax.numpy as jnp
from brainopt import checkpoint
def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines[name].split()[0])
tree = {str(i): jnp.ones(8 << 20).block_until_ready() for i in range(8)}
checkpoint.save(sys.argv[1] + "warm", {"w": jnp.ones(8)})
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
checkpoint.save(sys.argv[1], tree)
print(status("VmHWM") - before)
"""


def memory_row(folder):
    """Measure what saving 256 MiB adds to the memory of a process."""
    done = subprocess.run(
        [sys.executable, "-c", _EXTRA, os.path.join(folder, "memory")],
        capture_output=True,
        check=True,
    )
    extra, allowed = int(done.stdout), (32 << 20) + EXTRA_REQUIRED
    name = "extra bytes while saving 8 arrays of 32 MiB / one array + 16 MiB"
    return row(name, extra, allowed, extra / allowed, 1.0)


def inspect_row(folder):
    """Time ``inspect`` on a large file against its bound of 0.1 s."""
    path = os.path.join(folder, "ours")
    start = time.perf_counter()
    checkpoint.inspect(path)
    seconds = time.perf_counter() - start
    return row("inspect, seconds / 0.1 s", seconds, 0.1, seconds / 0.1, 1.0)


def training_row(folder):
    """Time training steps beside a save of 512 MiB, and alone."""
    step = jax.jit(lambda w, x: w - 1e-3 * jnp.tanh(x @ w), donate_argnums=0)
    state = {f"slot{i}": jnp.ones((16 << 20,)) for i in range(8)}
    held, x = [jnp.ones((384, 384))], jnp.ones((384, 384))

    def steps():
        start = time.perf_counter()
        for _ in range(20):
            held[0] = step(held[0], x)
        jax.block_until_ready(held[0])
        return time.perf_counter() - start

    beside, alone = [], []
    with checkpoint.AsyncSaver() as saver:
        for _ in range(3):
            saver.save(os.path.join(folder, "async"), state)
            count = len(beside)
            while saver.saving:
                beside.append(steps())
            saver.wait()
            alone += [steps() for _ in range(len(beside) - count)]
    times = float(np.mean(beside)), float(np.mean(alone))
    name = "20 training steps beside a 512 MiB save / alone"
    return row(name, *times, times[0] / times[1], 1.05)


def main(megabytes=MEGABYTES):
    """Return the rows of all measurements."""
    folder = tempfile.mkdtemp(prefix="bench-checkpoint-")
    count = (megabytes << 20) // 4 // 8
    arrays = {f"layer{i}": jnp.arange(count, dtype="float32") + i for i in range(8)}
    try:
        rows = raw_rows(folder, arrays)
        rows.append(inspect_row(folder))
        rows.append(memory_row(folder))
        rows.append(training_row(folder))
        return rows + peer_rows(folder, arrays)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    for line in main(*map(int, sys.argv[1:])):
        mark = "ok" if line["pass"] else "MISSED"
        print(
            f"{line['name']:64} {line['ours']:12.4g} {line['reference']:12.4g} "
            f"{line['ratio']:7.3f} <= {line['required']:.3f} {mark}"
        )
