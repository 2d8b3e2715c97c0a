# SPDX-License-Identifier: Apache-2.0
"""The table of `docs/reliability.md`: the same faults for brainopt and its peers.

Run with: ``python -m tests.checkpoint.table [scale]``. Peers that are not installed are
left out. A row tells how many faults were tried, how many were refused with an error,
how many changed nothing, and how many gave wrong numbers without a word; or, for
writers that are killed, how often the old or the new file was there, and how often
neither.
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from brainopt import checkpoint
from tests.checkpoint.trees import same

SEED = 20251


class Brainopt:
    """The file under test."""

    name = "brainopt"
    save = staticmethod(checkpoint.save)
    load = staticmethod(checkpoint.load)


class Npz:
    """NumPy's own writer and reader."""

    name = "npz"

    @staticmethod
    def save(path, tree):
        with open(path, "wb") as file:
            np.savez(file, **tree)

    @staticmethod
    def load(path):
        with np.load(path) as archive:
            return dict(archive)


class Flax:
    """``flax.serialization``, as its documentation uses it."""

    name = "flax"

    @staticmethod
    def save(path, tree):
        from flax import serialization

        Path(path).write_bytes(serialization.msgpack_serialize(dict(tree)))

    @staticmethod
    def load(path):
        from flax import serialization

        return serialization.msgpack_restore(Path(path).read_bytes())


class Safetensors:
    """``safetensors.numpy``."""

    name = "safetensors"

    @staticmethod
    def save(path, tree):
        from safetensors.numpy import save_file

        save_file(tree, path)

    @staticmethod
    def load(path):
        from safetensors.numpy import load_file

        return load_file(path)


class Torch:
    """``torch.save`` and ``torch.load`` with ``weights_only``."""

    name = "torch"

    @staticmethod
    def save(path, tree):
        import torch

        torch.save({key: torch.from_numpy(value) for key, value in tree.items()}, path)

    @staticmethod
    def load(path):
        import torch

        return {key: value.numpy() for key, value in torch.load(path).items()}


def small_tree():
    """About 50 KB of weights, moments and a step."""
    rng = np.random.default_rng(SEED)
    arrays = {
        f"layers.{i}.W": rng.normal(size=(32, 32)).astype("f4") for i in range(12)
    }
    return {**arrays, "step": np.asarray(1234, "i4")}


def judged(peer, path, data, good):
    """Load damaged bytes: ``refused``, ``harmless`` or ``silent``."""
    path.write_bytes(data)
    try:
        loaded = peer.load(str(path))
    except Exception:
        return "refused"
    sorted_items = dict(sorted(loaded.items()))
    return "harmless" if same(dict(sorted(good.items())), sorted_items) else "silent"


def flips(data, count, rng):
    """Bytes with one flipped bit."""
    for _ in range(count):
        damaged, bit = bytearray(data), rng.randrange(8 * len(data))
        damaged[bit // 8] ^= 1 << bit % 8
        yield damaged


def cuts(data, count, rng):
    """Bytes that end too soon."""
    for _ in range(count):
        yield data[: rng.randrange(len(data))]


def zeroed_blocks(data, count, rng):
    """Bytes with 512 of them set to zero."""
    for _ in range(count):
        at = rng.randrange(len(data) - 512)
        yield data[:at] + bytes(512) + data[at + 512 :]


def tails(data, count, rng):
    """Bytes with garbage after their end."""
    for _ in range(count):
        yield data + rng.randbytes(rng.randrange(1, 200))


FAULTS = {
    "flipped bit": (flips, 5_000),
    "cut": (cuts, 1_000),
    "512 bytes zeroed": (zeroed_blocks, 500),
    "garbage appended": (tails, 500),
}


def damage_rows(peer, folder, scale):
    """Count what a peer says to each kind of damage."""
    good, path = small_tree(), Path(folder) / f"{peer.name}.x"
    peer.save(str(path), good)
    data = path.read_bytes()
    for fault, (kind, count) in FAULTS.items():
        rng, tally = (
            random.Random(SEED),
            dict.fromkeys(("refused", "harmless", "silent"), 0),
        )
        for bad in kind(data, count * scale, rng):
            tally[judged(peer, path, bad, good)] += 1
        yield peer.name, fault, count * scale, *tally.values()


def write_for_ever(peer, path, size, first):
    """Save one number after the other."""
    number = first
    while True:
        number += 1
        peer.save(path, {"a": np.full(size // 4, number, "f4")})


def kill_row(peer, folder, kills, size=8 << 20):
    """Kill a writer at random moments and look at what stands there."""
    rng, path = random.Random(SEED), os.path.join(folder, f"{peer.name}.kill")
    lost = silent = 0
    start = multiprocessing.get_context("fork")
    for _ in range(kills):
        peer.save(path, {"a": np.zeros(size // 4, "f4")})
        child = start.Process(target=write_for_ever, args=(peer, path, size, 0))
        child.start()
        time.sleep(rng.uniform(0.005, 0.1))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        try:
            values = np.unique(peer.load(path)["a"])
            silent += len(values) != 1
        except Exception:
            lost += 1
    return peer.name, "kill -9 in a save", kills, lost, kills - lost - silent, silent


def main(scale=1):
    """Return all rows: peer, fault, tried, refused or lost, harmless, silent."""
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for peer in (Brainopt, Npz, Safetensors, Flax, Torch):
            try:
                peer.save(os.path.join(folder, "probe"), small_tree())
            except ImportError:
                continue
            rows += damage_rows(peer, folder, scale)
            rows.append(kill_row(peer, folder, 40 * scale))
    return rows


if __name__ == "__main__":
    print("| format | fault | tried | refused | harmless | silently wrong |")
    print("|---|---|---|---|---|---|")
    for line in main(*map(int, sys.argv[1:])):
        print("| " + " | ".join(map(str, line)) + " |")
