# SPDX-License-Identifier: Apache-2.0
"""Small arrays are read together, and proven each by itself."""

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.io import _os
from brainopt.errors import CheckpointCorruptError


def _saved(folder, count):
    arrays = {str(i): np.full(4, i, np.int32) for i in range(count)}
    checkpoint.save(folder / "f", arrays)
    return folder / "f"


def _last_of(file):
    return [int(array[3]) for array in checkpoint.load(file).values()]


def test_those_side_by_side_are_read_by_few_calls(tmp_path, monkeypatch):
    file, calls = _saved(tmp_path, 1000), []
    read = _os.FileSystem.read_at

    def counted(self, fd, buffers, offset):
        calls.append(offset)
        return read(self, fd, buffers, offset)

    monkeypatch.setattr(_os.FileSystem, "read_at", counted)
    assert _last_of(file) == list(range(1000))
    assert len(calls) < 20


def test_a_system_that_fills_few_buffers_at_once_reads_the_same(tmp_path, monkeypatch):
    file = _saved(tmp_path, 100)
    monkeypatch.setattr(_os, "_MAX_BUFFERS", 3)
    assert _last_of(file) == list(range(100))


def test_a_large_array_among_them_is_read_too(tmp_path):
    arrays = {str(i): np.full(n, i, "f4") for i, n in enumerate((3, 5 << 20, 2, 0, 1))}
    checkpoint.save(tmp_path / "f", arrays)
    found = checkpoint.load(tmp_path / "f")
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    checkpoint.verify(tmp_path / "f")


@pytest.mark.parametrize("act", [checkpoint.load, checkpoint.verify])
@pytest.mark.parametrize("before", [0, 1])
def test_damage_in_one_or_in_its_head_is_named(tmp_path, act, before):
    file = _saved(tmp_path, 600)
    data = file.read_bytes()
    place = data.index(np.full(4, 437, np.int32).tobytes()) - before
    file.write_bytes(data[:place] + b"\xee" + data[place + 1 :])
    with pytest.raises(CheckpointCorruptError, match="  437: its bytes"):
        act(file)
