# SPDX-License-Identifier: Apache-2.0
"""The ``.safetensors`` door, held to the format's own document and library."""

import contextlib
import json
import random
import struct

import ml_dtypes
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.errors import CheckpointError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

ARRAYS = {
    "net.W": np.arange(6, dtype="f4").reshape(2, 3),
    "step": np.array(3, "i4"),
    "empty": np.zeros((0, 2), "f4"),
    "flags": np.array([True, False]),
    "bf": np.arange(3).astype(ml_dtypes.bfloat16),
    "f8": np.arange(3).astype(ml_dtypes.float8_e4m3fn),
}


def by_hand(table, payload):
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + payload


def test_arrays_go_there_and_back(tmp_path):
    checkpoint.save(tmp_path / "f.safetensors", ARRAYS)
    assert same(ARRAYS, checkpoint.load(tmp_path / "f.safetensors"))


def test_the_file_is_what_the_format_document_says(tmp_path):
    checkpoint.save(tmp_path / "f.safetensors", {"w": np.array([1.0, 2.0])})
    data = (tmp_path / "f.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    table = {"w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}
    assert json.loads(data[8 : 8 + size]) == table and size % 8 == 0
    assert data[8 + size :] == struct.pack("<2d", 1, 2)


@pytest.mark.hosts("safetensors")
def test_the_library_reads_what_save_writes_and_the_other_way(tmp_path):
    from safetensors.numpy import load_file, save_file

    plain = {name: ARRAYS[name] for name in ("net.W", "step", "empty", "flags")}
    checkpoint.save(tmp_path / "f.safetensors", plain)
    assert same(plain, {k: load_file(tmp_path / "f.safetensors")[k] for k in plain})
    save_file(plain, tmp_path / "g.safetensors", {"format": "pt"})
    loaded = checkpoint.load(tmp_path / "g.safetensors")
    assert same(plain, {name: loaded[name] for name in plain})


def test_a_node_comes_back(tmp_path):
    node = FakeNode({"W": np.arange(3.0)})
    checkpoint.save(tmp_path / "f.safetensors", node)
    other = FakeNode({"W": np.zeros(3)})
    checkpoint.restore(tmp_path / "f.safetensors", other)
    assert same(node.state_dict(), other.state_dict())


@pytest.mark.parametrize("value", [1, np.ones(2, "c16"), np.ones(1, ml_dtypes.int4)])
def test_what_the_format_cannot_hold_is_refused_by_path(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"net\.x"):
        checkpoint.save(tmp_path / "f.safetensors", {"net": {"x": value}})


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD = {
    "no header": b"",
    "long header": struct.pack("<Q", 2**63) + b"{}",
    "no object": by_hand([1], b""),
    "nested": struct.pack("<Q", 90_000) + b"[" * 90_000,
    "hole": by_hand({"w": GOOD | {"data_offsets": [8, 16]}}, bytes(16)),
    "overlap": by_hand({"w": GOOD, "v": GOOD | {"data_offsets": [4, 12]}}, bytes(12)),
    "beyond": by_hand({"w": GOOD}, bytes(4)),
    "rest": by_hand({"w": GOOD}, bytes(9)),
    "shape": by_hand({"w": GOOD | {"shape": [3]}}, bytes(8)),
    "negative": by_hand({"w": GOOD | {"shape": [-1, -2]}}, bytes(8)),
    "huge": by_hand({"w": GOOD | {"shape": [2**62, 2**62]}}, bytes(8)),
    "dtype": by_hand({"w": GOOD | {"dtype": "O"}}, bytes(8)),
    "truth": by_hand({"w": GOOD | {"dtype": "BOOL", "shape": [8]}}, bytes([2] * 8)),
    "twice": struct.pack("<Q", 17) + b'{"w": 1, "w": 2 }',
    "offsets": by_hand({"w": GOOD | {"data_offsets": [[], {}]}}, bytes(8)),
    "float": by_hand({"w": GOOD | {"shape": [2.0]}}, bytes(8)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_hostile_file_is_refused(tmp_path, case):
    (tmp_path / "f.safetensors").write_bytes(BAD[case])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path / "f.safetensors")


def test_a_mutated_header_raises_only_checkpoint_errors(tmp_path):
    rng, path = random.Random(20251), tmp_path / "f.safetensors"
    checkpoint.save(path, ARRAYS)
    good = path.read_bytes()
    for _ in range(600):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(400)] = rng.randrange(256)
        path.write_bytes(bad)
        with contextlib.suppress(CheckpointError):
            checkpoint.load(path)
