# SPDX-License-Identifier: Apache-2.0
"""The table of docs/project/reliability.md: equal faults for brainopt and its peers.

Run with: ``python -m tests.checkpoint.table [scale]``. Peers that are not installed are
named and left out. A row tells how many faults were tried; how often the load was
refused with an error; how often the numbers were right all the same; how often neither
the old nor the new file could be loaded after a writer was killed; and how often there
were wrong numbers without a word.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from brainopt import checkpoint
from tests.checkpoint.trees import same

SEED = 20251
VERDICTS = ("refused", "harmless", "lost", "silent")


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


class Brainpy:
    """``brainpy.checkpoints``."""

    name = "brainpy"

    @staticmethod
    def save(path, tree):
        import brainpy

        brainpy.checkpoints.save_pytree(path, dict(tree), verbose=False)

    @staticmethod
    def load(path):
        import brainpy

        return brainpy.checkpoints.load_pytree(path)


class Orbax:
    """``orbax.checkpoint.PyTreeCheckpointer`` with ``force``: a folder of files."""

    name = "orbax"
    slow = 10
    forks = False

    @staticmethod
    def save(path, tree):
        from orbax import checkpoint as orbax

        orbax.PyTreeCheckpointer().save(os.path.abspath(path), dict(tree), force=True)

    @staticmethod
    def load(path):
        from orbax import checkpoint as orbax

        return orbax.PyTreeCheckpointer().restore(os.path.abspath(path))


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


def judged(peer, path, good):
    """Load damaged files: ``refused``, ``harmless`` or ``silent``."""
    try:
        loaded = peer.load(str(path))
    except Exception:
        return "refused"
    sorted_items = {name: np.asarray(loaded[name]) for name in sorted(loaded)}
    return "harmless" if same(dict(sorted(good.items())), sorted_items) else "silent"


def flip(data, rng):
    """Flip one bit."""
    damaged, bit = bytearray(data), rng.randrange(8 * len(data))
    damaged[bit // 8] ^= 1 << bit % 8
    return damaged


def cut(data, rng):
    """End too soon."""
    return data[: rng.randrange(len(data))]


def zero(data, rng):
    """Set 512 bytes to zero."""
    at = rng.randrange(max(len(data) - 512, 1))
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def append(data, rng):
    """Put garbage after the end."""
    return data + rng.randbytes(rng.randrange(1, 200))


FAULTS = {
    "flipped bit": (flip, 5_000),
    "cut": (cut, 1_000),
    "512 bytes zeroed": (zero, 500),
    "garbage appended": (append, 500),
}


def damage_rows(peer, folder, scale):
    """Count what a peer says to each kind of damage, in whichever file it strikes."""
    good, path = small_tree(), Path(folder) / f"{peer.name}.x"
    peer.save(str(path), good)
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    files = {file: data for file in found if file.is_file() and (data := _read(file))}
    for fault, (damage, count) in FAULTS.items():
        count = count * scale // getattr(peer, "slow", 1)
        rng, tally = random.Random(SEED), dict.fromkeys(VERDICTS, 0)
        for _ in range(count):
            (file,) = rng.choices(list(files), [len(data) for data in files.values()])
            file.write_bytes(damage(files[file], rng))
            tally[judged(peer, path, good)] += 1
            file.write_bytes(files[file])
        yield peer.name, fault, count, *tally.values()


def _read(file):
    return file.read_bytes()


def write_for_ever(peer, path, size, first):
    """Save one number after the other."""
    number = first
    while True:
        number += 1
        peer.save(path, {"a": np.full(size // 4, number, "f4")})


def started(peer, path, size):
    """Start a process that saves for ever; return its process id and what ends it."""
    if getattr(peer, "forks", True):
        start = multiprocessing.get_context("fork")
        child = start.Process(target=write_for_ever, args=(peer, path, size, 0))
        child.start()
        return child.pid, child.join
    code = (
        "import sys; from tests.checkpoint import table as t\n"
        "peer = getattr(t, sys.argv[1]); print(flush=True)\n"
        "t.write_for_ever(peer, sys.argv[2], int(sys.argv[3]), 0)"
    )
    words = [sys.executable, "-c", code, peer.__name__, path, str(size)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child.stdout.readline()
    time.sleep(2)  # the imports of the peer

    def end():
        child.wait()
        child.stdout.close()

    return child.pid, end


def kill_row(peer, folder, kills, size=8 << 20):
    """Kill a writer at random moments and look at what stands there."""
    rng, path = random.Random(SEED), os.path.join(folder, f"{peer.name}.kill")
    lost = silent = 0
    kills //= getattr(peer, "slow", 1) // 2 or 1
    for _ in range(kills):
        peer.save(path, {"a": np.zeros(size // 4, "f4")})
        child, end = started(peer, path, size)
        time.sleep(rng.uniform(0.005, 0.1))
        os.kill(child, signal.SIGKILL)
        end()
        try:
            silent += len(np.unique(peer.load(path)["a"])) != 1
        except Exception:
            lost += 1
    right = kills - lost - silent
    return peer.name, "kill -9 in a save", kills, 0, right, lost, silent


PEERS = (Brainopt, Npz, Safetensors, Flax, Brainpy, Orbax, Torch)


def main(scale=1):
    """Yield all rows: peer, fault, tried, refused, harmless, lost, silent."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for peer in PEERS:
            try:
                peer.save(os.path.join(folder, "probe"), small_tree())
            except ImportError as error:
                print(f"left out: {peer.name} ({error})", file=sys.stderr)
                continue
            finally:
                _remove(os.path.join(folder, "probe"))
            yield from damage_rows(peer, folder, scale)
            yield kill_row(peer, folder, 40 * scale)


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


if __name__ == "__main__":
    print("| format | fault | tried | refused | harmless | lost | silently wrong |")
    print("|---|---|---|---|---|---|---|")
    for line in main(*map(int, sys.argv[1:])):
        print("| " + " | ".join(map(str, line)) + " |", flush=True)
