# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files: R1 to R4 of the reliability matrix.

Each case either raises a `CheckpointError` or fails the test. ``SEED`` and the case
are in the message of a failure.
"""

import copy
import random
import resource
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.format import _layout
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointVersionError,
)
from tests.checkpoint import forge
from tests.checkpoint.trees import mixed_tree, same

SEED = 20251
QUICK_LONG = [pytest.param(1, id="quick"), pytest.param(10, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two good files, of about 5 KB and 50 KB."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(SEED)
    checkpoint.save(folder / "small", {"W": rng.normal(size=(60, 10)), "n": [1, "a"]})
    checkpoint.save(folder / "large", mixed_tree(rng, 10_000))
    return {name: (folder / name).read_bytes() for name in ("small", "large")}


class Scratch:
    """One file whose bytes change many times; never truncated to nothing, for speed."""

    def __init__(self, path):
        self.path = path
        self.file = path.open("w+b", buffering=0)

    def refuses(self, data):
        """Whether load refuses the bytes with a CheckpointError, and nothing else."""
        self.file.seek(0)
        self.file.write(data)
        self.file.truncate(len(data))
        try:
            checkpoint.load(self.path)
        except CheckpointError:
            return True
        return False


@pytest.fixture
def scratch(tmp_path):
    """A file to damage."""
    scratch = Scratch(tmp_path / "scratch")
    yield scratch
    scratch.file.close()


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return damaged


@pytest.mark.more
@pytest.mark.parametrize("times", QUICK_LONG)
def test_every_flipped_bit_is_refused(files, scratch, times):
    rng, data = random.Random(SEED), files["large"]
    for _ in range(10_000 * times):
        bit = rng.randrange(8 * len(data))
        assert scratch.refuses(flipped(data, bit)), (SEED, bit)


@pytest.mark.long
def test_every_single_bit_of_a_small_file_is_refused(files, scratch):
    data = files["small"]
    for bit in range(8 * len(data)):
        assert scratch.refuses(flipped(data, bit)), bit


@pytest.mark.parametrize(
    "name", ["small", pytest.param("large", marks=pytest.mark.long)]
)
def test_every_truncation_is_refused(files, scratch, name):
    data = files[name]
    for length in range(len(data)):
        assert scratch.refuses(data[:length]), length


def zeroed(data, other, rng):
    at = rng.randrange(len(data) - 512)
    return data[:at] + bytes(512) + data[at + 512 :]


def tail_zeroed(data, other, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes(len(data) - at)


def blocks_swapped(data, other, rng):
    one, two = sorted(rng.sample(range(len(data) // 512), 2))
    blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
    blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


def appended(data, other, rng):
    return data + rng.randbytes(rng.randrange(1, 200))


def head_and_tail(data, other, rng):
    at = rng.randrange(len(data))
    return data[:at] + other[at:]


def bytes_swapped(data, other, rng):
    one, two = rng.sample(range(len(data)), 2)
    damaged = bytearray(data)
    damaged[one], damaged[two] = damaged[two], damaged[one]
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [zeroed, tail_zeroed, blocks_swapped, appended, head_and_tail, bytes_swapped],
)
def test_damaged_blocks_are_refused(files, scratch, damage, tmp_path):
    rng, data = random.Random(SEED), files["large"]
    checkpoint.save(tmp_path / "o", mixed_tree(np.random.default_rng(1), 10_000))
    other = (tmp_path / "o").read_bytes()
    for case in range(500):
        bad = damage(data, other, rng)
        if bad not in (data, other):
            assert scratch.refuses(bad), (SEED, case)


def test_the_manifest_is_checked_behind_its_checksum(tmp_path):
    (tmp_path / "f").write_bytes(forge.small_file())
    expected = {"w": np.array([1, 2, 3], "f4"), "epoch": 3}
    assert same(expected, checkpoint.load(tmp_path / "f"))


NASTY = [
    None,
    True,
    -1,
    0,
    1,
    64,
    2**31,
    2**63 - 1,
    2**64 - 1,
    1.5,
    float("nan"),
    "",
    "w",
    "array",
    "dict",
    "node",
    "key",
    "long str",
    "object",
    "O",
    "float64",
    "threefry2x32",
    "x" * 5000,
    b"",
    b"\xff" * 20,
    [],
    [3],
    [2**62, 4],
    [0, 2**63 - 1],
    [-1],
    [1] * 40,
    {},
    {"a": 1},
    [[[[]]]],
]


def forged(rng):
    """A file with valid checksums whose records are not what a writer writes."""
    data = bytes(range(64))
    body, offset = forge.place(forge.header(), data)
    records = [
        [None, "dict", 4],
        ["w", "array", "float32", [16], offset],
        ["n", "list", 1],
        [None, "int", 3],
        ["node", "node", 2],
        ["meta", "dict", 0],
        ["state", "dict", 0],
        ["k", "complex", 1.0, 2.0],
    ]
    for _ in range(rng.randrange(1, 4)):
        act, where = rng.randrange(4), rng.randrange(len(records))
        record = records[where]
        if act == 0 and isinstance(record, list) and record:
            record[rng.randrange(len(record))] = copy.deepcopy(rng.choice(NASTY))
        elif act == 1:
            records[where] = copy.deepcopy(rng.choice(NASTY))
        elif act == 2:
            records.insert(where, copy.deepcopy(rng.choice(records)))
        elif len(records) > 1:
            del records[where]
    frames = [
        forge.frame(r) + (forge.table(data) if _with_table(r) else b"") for r in records
    ]
    manifest = bytearray(forge.frame(rng.choice([{}] * 20 + [[], None])))
    manifest += b"".join(frames)
    if rng.random() < 0.5:
        manifest[rng.randrange(len(manifest))] = rng.randrange(256)
    return forge.seal(body, bytes(manifest), len(records))


def _with_table(record):
    return isinstance(record, list) and "array" in record


@pytest.mark.more
@pytest.mark.parametrize("times", QUICK_LONG)
def test_forged_manifests_raise_only_checkpoint_errors(scratch, times):
    rng = random.Random(SEED)
    accepted, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(20_000 * times):
        try:
            accepted += not scratch.refuses(forged(rng))
        except BaseException as error:
            raise AssertionError((SEED, case)) from error
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, (SEED, grown)
    assert 0 < accepted < 2_000 * times  # some mutations are legal: the seal holds


def nested(n):
    return b"\x91" * n + b"\x90"


def bombs():
    """32 small MessagePack files that hurt other readers."""
    big = 2**32 - 1
    for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
        for length in (10**6, 2**31, big):
            yield head + length.to_bytes(4, "big")
    for depth in (100, 1_000, 3_000, 100_000):
        yield nested(depth)
        yield b"\x81\xa1a" * depth + b"\xc0"
    yield b"\x80" * 500_000
    yield b"\x90" * 500_000
    yield msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(([2], "O", b"x" * 16)))})
    yield msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(([-1], "f4", b"")))})
    yield msgpack.packb(msgpack.Timestamp(1, 2))
    yield b"\xc1"
    yield b"\x82\xa1a\x01\xa1a\x02"
    yield b"\xd9\x0cbrainopt\r\n\x1a\n" + b"\x90" * 1000
    yield b"\x80\x04\x95cos\nsystem\n(S'x'\ntR."


def test_msgpack_bombs_are_refused(scratch):
    cases = list(bombs())
    assert len(cases) == 32
    for bomb in cases:
        assert scratch.refuses(bomb)


def wrapped(bomb):
    """The bombs again, as the one record of a file with valid checksums."""
    frame = b"\xce" + len(bomb).to_bytes(4, "big") + bomb
    return forge.bare_file([frame])


def test_bombs_behind_valid_checksums_are_refused(scratch):
    for bomb in bombs():
        assert scratch.refuses(wrapped(bomb))


def crowds():
    """The largest legal crowds of records that cost memory to hold."""
    most = _layout.MAX_PLAIN
    head = [forge.frame([None, "dict", most - 1])]
    empty = [forge.frame([i, "dict", 0]) for i in range(most - 1)]
    yield head + empty
    array = b"\xc6" + bytes(4)
    yield head + [
        forge.frame([i, "array", "int8", [0], 0]) + array for i in range(most - 1)
    ]
    yield [forge.frame([None, "list", 3000])] + [
        forge.frame([None, "str", "x" * 4000 + "\U0001f600"])
    ] * 3000
    keys = _layout.MAX_PRNG_KEYS
    yield [forge.frame([None, "dict", keys])] + [
        forge.frame([i, "key", "rbg", [0, 4], 0]) + array for i in range(keys)
    ]
    node = [forge.frame([None, "node", 2]), forge.frame(["meta", "dict", 0])]
    yield [*node, forge.frame(["state", "dict", most - 3])] + [
        forge.frame([str(i), "array", "int8", [0], 0]) + array for i in range(most - 3)
    ]
    deep = [forge.frame([None, "list", 1])] * 59
    yield [*deep, forge.frame([None, "dict", most - 60])] + [
        forge.frame([i, "array", "int8", [0], 0]) + array for i in range(most - 60)
    ]


_MEASURE = """
import resource, sys
from brainopt import checkpoint, errors
act = getattr(checkpoint, sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    act(sys.argv[1])
except errors.CheckpointError:
    pass
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


ACTS = [
    "load",
    *(pytest.param(a, marks=pytest.mark.long) for a in ("verify", "inspect")),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("crowd", range(6))
def test_the_most_crowded_files_cost_bounded_memory(tmp_path, crowd, act):
    path = tmp_path / "f"
    path.write_bytes(forge.bare_file(list(crowds())[crowd]))
    told = subprocess.run(
        [sys.executable, "-c", _MEASURE, path, act],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    assert int(told.stdout) <= 2 * path.stat().st_size + 64 * 2**20


def test_a_newer_version_is_named_with_ours(tmp_path):
    (tmp_path / "f").write_bytes(forge.small_file(version=2))
    with pytest.raises(CheckpointVersionError, match=r"version 2.*up to 1"):
        checkpoint.load(tmp_path / "f")


def test_a_damaged_version_number_is_damage_and_no_newer_version(tmp_path):
    damaged = bytearray(forge.small_file())
    damaged[17] = 2
    (tmp_path / "f").write_bytes(damaged)
    with pytest.raises(CheckpointCorruptError, match="header or manifest"):
        checkpoint.load(tmp_path / "f")


def test_unknown_optional_metadata_is_ignored(tmp_path):
    (tmp_path / "f").write_bytes(forge.small_file({"weather": [1, {"sun": True}]}))
    assert checkpoint.load(tmp_path / "f")["epoch"] == 3


def test_what_a_newer_writer_declares_as_needed_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(forge.small_file({"needs": ["compression"]}))
    with pytest.raises(CheckpointVersionError, match="compression"):
        checkpoint.load(tmp_path / "f")


def test_verify_finds_what_load_finds(files, tmp_path):
    rng, data = random.Random(SEED), files["large"]
    for _ in range(300):
        bit = rng.randrange(8 * len(data))
        (tmp_path / "f").write_bytes(flipped(data, bit))
        with pytest.raises(CheckpointError):
            checkpoint.verify(tmp_path / "f")


def test_inspect_reads_no_array(tmp_path):
    path = tmp_path / "f"
    checkpoint.save(path, {"w": np.ones(1000, "f4"), "epoch": 3})
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    told = checkpoint.inspect(path)
    assert [(e.path, e.dtype, e.shape) for e in told.entries] == [
        ("w", "float32", (1000,)),
        ("epoch", "", ()),
    ]
    assert told.version == 1 and told.entries[1].value == 3
