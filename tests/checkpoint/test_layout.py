# SPDX-License-Identifier: Apache-2.0
"""The format stays what it is: golden files and the specification, R22."""

import hashlib
from pathlib import Path

import msgpack
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.errors import CheckpointCorruptError, CheckpointError
from tests.checkpoint import forge
from tests.checkpoint.golden import make_v1
from tests.checkpoint.trees import same

GOLDEN = Path(__file__).parent / "golden"
SHA = "14c028cdbfa96f1d7ad286c328b69f6e6dd5dfc895f5d8d842acf81056b85b13"


def test_the_golden_file_was_not_replaced():
    assert hashlib.sha256((GOLDEN / "v1.bopt").read_bytes()).hexdigest() == SHA


def test_the_golden_file_of_version_1_is_read_exactly():
    expected = make_v1.tree()
    opt = expected["opt"]
    loaded = checkpoint.load(GOLDEN / "v1.bopt")
    assert same(expected | {"opt": opt.state_dict()}, loaded)
    told = checkpoint.inspect(GOLDEN / "v1.bopt")
    assert told.version == 1 and same(told.nodes["opt"], opt._checkpoint_meta())


def test_the_golden_file_restores_into_a_node():
    node = make_v1.tree()["opt"]
    expected = node.state_dict()
    for variable in node.variables.values():
        variable.value = np.zeros_like(variable.value)
    checkpoint.restore(GOLDEN / "v1.bopt", {"opt": node})
    assert same(expected, node.state_dict())


def test_the_writer_writes_what_the_specification_says(tmp_path):
    checkpoint.save(tmp_path / "f", {"w": np.array([1, 2, 3], "f4"), "epoch": 3})
    written = (tmp_path / "f").read_bytes()
    length = int.from_bytes(written[77:81], "big")
    first = msgpack.unpackb(written[81 : 81 + length])
    assert written == forge.small_file(first)


def test_a_file_is_a_stream_of_messagepack_objects(tmp_path):
    checkpoint.save(tmp_path / "f", {"w": np.ones(100, "f4"), "epoch": 3})
    stream = msgpack.Unpacker(strict_map_key=False, raw=False)
    stream.feed((tmp_path / "f").read_bytes())
    objects = [item for item in stream if item is not None]
    assert objects[0] == "brainopt\r\n\x1a\n"
    assert objects[1] == [1, 0, 64, 1 << 20]
    assert objects[2] == np.ones(100, "f4").tobytes()
    assert ["epoch", "int", 3] in objects


def test_arrays_begin_on_64_byte_boundaries(tmp_path):
    checkpoint.save(tmp_path / "f", [np.arange(n, dtype="i2") for n in range(1, 40)])
    data = (tmp_path / "f").read_bytes()
    for number, entry in enumerate(checkpoint.inspect(tmp_path / "f").entries, 1):
        assert entry.offset % 64 == 0
        array = np.frombuffer(data, "<i2", number, entry.offset)
        assert (array == np.arange(number)).all()


NODE = [[None, "node", 2], ["meta", "dict", 0], ["state", "dict", 1]]
BEYOND_THE_LIMITS = {
    "a state by a number": [*NODE, [1, "none"]],
    "a nested state": [*NODE, ["a", "list", 0]],
    "a long key": [[None, "dict", 1], ["k" * 4097, "none"]],
    "a long text in its record": [[None, "str", "é" * 2049]],
    "a deep tree": [[None, "list", 1]] * 64 + [[None, "none"]],
}


@pytest.mark.parametrize("case", BEYOND_THE_LIMITS)
def test_a_reader_refuses_what_the_specification_excludes(tmp_path, case):
    records = BEYOND_THE_LIMITS[case]
    manifest = b"".join(map(forge.frame, [{"library": "forge"}, *records]))
    file = forge.seal(forge.header(), manifest, len(records))
    (tmp_path / "f").write_bytes(file)
    for act in (checkpoint.load, checkpoint.verify, checkpoint.inspect):
        with pytest.raises(CheckpointCorruptError):
            act(tmp_path / "f")


def test_the_deepest_tree_goes_there_and_back(tmp_path):
    tree = 1
    for _ in range(63):
        tree = [tree]
    checkpoint.save(tmp_path / "f", tree)
    assert checkpoint.load(tmp_path / "f") == tree
    with pytest.raises(CheckpointError, match="deeper than 64"):
        checkpoint.save(tmp_path / "f", [tree])
