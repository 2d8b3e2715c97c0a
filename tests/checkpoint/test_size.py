# SPDX-License-Identifier: Apache-2.0
"""Large files: what they cost in memory, and more than 4 GiB in one array (R23)."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from brainopt import _memory, checkpoint
from brainopt.errors import CheckpointIOError
from tests.benchmarks.timing import extra_bytes

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

_IMPORTS = """
import jax, numpy as np, jax.numpy as jnp
import brainopt as bo
from brainopt import checkpoint
"""
_JAX = "tree = {str(i): jnp.ones(4 << 20).block_until_ready() for i in range(6)}"
_NUMPY = "tree = {str(i): np.ones(4 << 20, 'f4') for i in range(6)}"
_WARM = "; checkpoint.save(path + 'w', {'w': jnp.ones(8)}); checkpoint.load(path + 'w')"
_SAVE = "checkpoint.save(path, tree)"
_NET = """
def make(*shape):
    made = bo.Node()
    made.w = [bo.TrainVar(jnp.ones(shape)) for i in range(6)]
    if divided:
        mesh = jax.make_mesh((4,), ("data",))
        bo.sharding.shard(made, mesh, {"*": jax.sharding.PartitionSpec(*divided)})
    return made
checkpoint.save(path + 'w', make(8, 8)); checkpoint.restore(path + 'w', make(8, 8))
net = make(2048, 2048); checkpoint.save(path, net, sharded=folder)
"""
_RESTORE = "checkpoint.restore(path, net)"
COSTS = {
    "save of jax arrays": (_JAX + _WARM, _SAVE, 16 * MIB + 16 * MIB),
    "save of numpy arrays": (_NUMPY + _WARM, _SAVE, 16 * MIB + 16 * MIB),
    "verify": (
        f"{_JAX}{_WARM}; {_SAVE}; del tree",
        "checkpoint.verify(path)",
        40 * MIB,
    ),
    "load": (
        f"{_JAX}{_WARM}; {_SAVE}; del tree",
        "tree = checkpoint.load(path)",
        (6 * 16 + 32) * MIB,
    ),
    "restore": ("divided = None; folder = False" + _NET, _RESTORE, (6 * 16 + 8) * MIB),
    # The result, and the strip of rows that its pieces are cut from.
    "restore of rows": (
        "divided = 'data', None; folder = False" + _NET,
        _RESTORE,
        (6 * 16 + 8) * MIB,
    ),
    "restore of columns": (
        "divided = None, 'data'; folder = False" + _NET,
        _RESTORE,
        (6 * 16 + 8) * MIB,
    ),
    "restore of a folder": (
        "divided = None, 'data'; folder = True" + _NET,
        _RESTORE,
        (6 * 16 + 8) * MIB,
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", COSTS)
def test_memory_stays_within_its_bound(tmp_path, kind):
    prepare, act, most = COSTS[kind]
    extra = extra_bytes(
        str(tmp_path / "f"),
        _IMPORTS + prepare,
        act,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )
    assert extra <= most


def test_an_array_without_memory_is_named(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "f", {"net": {"W": np.ones(9)}})

    def full(*args):
        raise MemoryError

    monkeypatch.setattr(_memory.np, "empty", full)
    with pytest.raises(CheckpointIOError, match=r"no memory for net\.W of 72 bytes"):
        checkpoint.load(tmp_path / "f")


@pytest.mark.long
def test_an_array_of_more_than_4_gib_comes_back(tmp_path):
    if shutil.disk_usage(tmp_path).free < 8 << 30:
        pytest.skip("needs 8 GiB of disk")
    count, path = (4 << 30) // 4 + 12_345, tmp_path / "f"
    array = np.arange(count, dtype="u4")
    checkpoint.save(path, {"before": 1, "a": array, "after": np.ones(3)}, verify=True)
    entry = checkpoint.inspect(path).entries[1]
    assert entry.nbytes > 4 << 30 and path.stat().st_size > entry.nbytes
    loaded = checkpoint.load(path)
    assert (loaded["a"] == array).all() and loaded["after"].sum() == 3
    data = loaded["a"]
    with path.open("r+b") as file:  # one bit in the last segment
        file.seek(entry.offset + (4 << 30) + 5000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    del loaded, data
    with pytest.raises(ValueError, match="a: its bytes are damaged"):
        checkpoint.verify(path)
    path.unlink()
