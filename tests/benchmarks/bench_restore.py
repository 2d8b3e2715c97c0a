# SPDX-License-Identifier: Apache-2.0
"""What a restore costs: many small arrays, a large file, and moves to devices.

Run with: ``python -m tests.benchmarks.bench_restore``.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import brainopt as bo
from brainopt.checkpoint import restore, save
from brainopt.runtime import put

from .timing import interleaved, memory_row, row, show

MANY_REQUIRED = 0.15  # seconds
FILE_REQUIRED = 1 / 0.6
MOVE_REQUIRED = 0.05  # seconds
EXTRA_REQUIRED = 64 << 20


def node(arrays):
    """A Node of Variables with these values."""
    made = bo.Node()
    made.layers = [bo.TrainVar(array) for array in arrays]
    return made


def many_rows(folder, count=3000):
    """A save and a restore of many small arrays against their copies into JAX."""
    arrays = [np.full(4, i, np.float32) for i in range(count)]
    net = node(arrays[: count // 3])
    trees = {
        f"{count:,} arrays": node(arrays),
        f"{count // 3:,} arrays and their AdamW": {
            "net": net,
            "opt": bo.optim.AdamW(1e-3, net),
        },
    }
    rows, path = [], os.path.join(folder, "many")
    for what, tree in trees.items():
        for how, act in (("save", save), ("restore", restore)):
            # Each has files of its own writing to read.
            save(path, tree)
            ours, floor, ratio = interleaved(
                lambda act=act, tree=tree: act(path, tree),
                lambda: jax.block_until_ready([jnp.array(a) for a in arrays]),
                repeats=9,
            )
            name = f"{how} {what} / jnp.array of {count:,} arrays"
            rows.append(row(name, ours, floor, ratio, MANY_REQUIRED / floor))
    return rows


def file_row(folder):
    """A restore of 256 MiB against an unchecked read into devices."""
    arrays = [np.full(8 << 20, i, np.float32) for i in range(8)]
    net, path, raw = node(arrays), os.path.join(folder, "a"), os.path.join(folder, "b")
    save(path, net)
    np.concatenate(arrays).tofile(raw)

    def by_hand():
        read = np.fromfile(raw, np.float32).reshape(8, -1)
        return jax.block_until_ready([jax.device_put(part) for part in read])

    timed = interleaved(lambda: restore(path, net), by_hand, repeats=9)
    return row("restore 256 MiB / np.fromfile and device_put", *timed, FILE_REQUIRED)


_PEAK = """
from tests.benchmarks.bench_restore import node, np, restore, save
net = node([np.full(8 << 20, i, np.float32) for i in range(8)])
save(path, net)
save(path + "w", node([np.ones(3)]))
restore(path + "w", node([np.ones(3)]))
"""


def peak_row(folder):
    """The memory that a restore of 256 MiB takes, its result included."""
    name = "bytes at the peak of a restore of 256 MiB / result + 64 MiB"
    path, allowed = os.path.join(folder, "peak"), (256 << 20) + EXTRA_REQUIRED
    return memory_row(name, path, _PEAK, "restore(path, net)", allowed)


def move_in_two(process, port):
    """In one of two processes: move 64 MiB, by us and by hand, and print the times."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, process)
    mesh, value = jax.make_mesh((2,), ("data",)), np.ones((4096, 4096), np.float32)
    found = {}
    for name, spec in (("whole", ()), ("divided", ("data",))):
        place = NamedSharding(mesh, PartitionSpec(*spec))
        for how, by_hand in (
            ("make_array_from_callback", _by_callback),
            ("jax.device_put", jax.device_put),
        ):
            found[f"move 64 MiB, {name}, one of two processes / {how}"] = interleaved(
                lambda place=place: jax.block_until_ready(put(value, place)),
                lambda f=by_hand, place=place: jax.block_until_ready(f(value, place)),
                repeats=9,
            )
    if process == 0:
        print(
            json.dumps({name: (*t, t[2].low, t[2].high) for name, t in found.items()})
        )


def _by_callback(value, place):
    make = jax.make_array_from_callback
    return make(value.shape, place, lambda index: value[index])


def move_rows():
    """A move of 64 MiB onto a mesh of two processes against the ways of JAX."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = "from tests.benchmarks.bench_restore import move_in_two as m; m({}, {})"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(process, port)],
            stdout=subprocess.PIPE,
            env=os.environ | {"XLA_FLAGS": ""},
        )
        for process in range(2)
    ]
    outs = [process.communicate(timeout=300)[0] for process in both]
    rows = []
    found = json.loads(outs[0].splitlines()[-1])
    for name, (ours, reference, ratio, low, high) in found.items():
        made = row(name, ours, reference, ratio, MOVE_REQUIRED / reference)
        rows.append(made | {"low": low, "high": high})
    return rows


def main():
    """Return the rows of all measurements."""
    with tempfile.TemporaryDirectory(prefix="bench-restore-") as folder:
        return [*many_rows(folder), file_row(folder), peak_row(folder), *move_rows()]


if __name__ == "__main__":
    show(main())
