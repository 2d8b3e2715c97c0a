# SPDX-License-Identifier: Apache-2.0
"""Digests for archives, and a tag that only a key can make."""

import hashlib
import random

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.format import _layout
from brainopt.errors import CheckpointCorruptError, CheckpointError
from tests.checkpoint import forge
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import mixed_tree, same

KEY = b"a secret"
TREE = {"w": np.arange(600_000, dtype="f4"), "t": "x" * 9000, "n": 3, "e": np.zeros(0)}


@pytest.fixture
def sealed(tmp_path):
    """A file with digests and a tag."""
    checkpoint.save(tmp_path / "f", TREE, key=KEY, verify=True)
    return tmp_path / "f"


def test_a_sealed_file_is_read_with_and_without_its_key(sealed):
    for key in (KEY, None):
        assert same(TREE, checkpoint.load(sealed, key=key))
        checkpoint.verify(sealed, key=key)
    node = FakeNode({"w": np.zeros(600_000, "f4")})
    checkpoint.restore(sealed, node, key=KEY, strict=False)
    assert same(node.state_dict()["w"], TREE["w"])


def test_another_key_and_a_file_without_a_tag_are_refused(sealed, tmp_path):
    checkpoint.save(tmp_path / "plain", TREE)
    checkpoint.save(tmp_path / "digest", TREE, digest="sha256")
    for path, key in (
        (sealed, b"x"),
        (tmp_path / "plain", KEY),
        (tmp_path / "digest", KEY),
    ):
        for act in (checkpoint.load, checkpoint.verify):
            with pytest.raises(
                CheckpointCorruptError, match="not written with this key"
            ):
                act(path, key=key)


def test_the_digest_is_the_sha256_of_the_bytes_of_the_array(sealed):
    data = sealed.read_bytes()
    assert hashlib.sha256(TREE["w"].tobytes()).digest() in data
    assert hashlib.sha256(b"x" * 9000).digest() in data


def changed(data, key=None):
    """The file with another number, its checksums made to fit: what crc32 allows."""
    offset = data.index(TREE["w"].tobytes())
    array = TREE["w"].copy()
    array[5] = 99
    body = data[:offset] + array.tobytes()
    footer = _layout.unpack_footer(data[-96:])
    rest = data[len(body) : footer.manifest_offset]
    manifest = data[footer.manifest_offset : -96]
    manifest = manifest.replace(
        forge.table(TREE["w"].tobytes()), forge.table(array.tobytes())
    )
    sealed = forge.seal(body + rest, manifest, footer.records)
    tag = _layout.tag(key, data[:27], manifest) if key else footer.tag
    footer = _layout.unpack_footer(sealed[-96:])._replace(tag=tag)
    return sealed[:-96] + _layout.pack_footer(footer)


def test_numbers_changed_behind_their_checksums_are_found(sealed):
    data = sealed.read_bytes()
    sealed.write_bytes(changed(data))
    for key, said in ((None, "w: SHA-256 does not match"), (KEY, "with this key")):
        for act in (checkpoint.load, checkpoint.verify):
            with pytest.raises(CheckpointCorruptError, match=said):
                act(sealed, key=key)


def test_every_flipped_bit_of_a_sealed_file_is_refused(tmp_path):
    tree = mixed_tree(np.random.default_rng(1), 2_000)
    checkpoint.save(tmp_path / "f", tree, key=KEY)
    data, rng = (tmp_path / "f").read_bytes(), random.Random(20251)
    bits = [8 * (len(data) - 18) + i for i in range(112)]  # the tag itself
    for bit in bits + [rng.randrange(8 * len(data)) for _ in range(300)]:
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        (tmp_path / "f").write_bytes(bad)
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / "f")


@pytest.mark.parametrize("key", [b"", b"x" * 65, "text", 3])
def test_a_key_is_1_to_64_bytes(tmp_path, key):
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        checkpoint.save(tmp_path / "f", 1, key=key)
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        checkpoint.load(tmp_path / "f", key=key)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_other_formats_have_no_seal_and_say_so(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    with pytest.raises(CheckpointError, match="neither a digest nor a tag"):
        checkpoint.save(path, {"w": TREE["w"]}, digest="sha256")
    checkpoint.save(path, {"w": TREE["w"]})
    with pytest.raises(CheckpointError, match="no tag"):
        checkpoint.load(path, key=KEY)


def test_only_sha256_is_a_digest(tmp_path):
    with pytest.raises(ValueError, match="digest must be"):
        checkpoint.save(tmp_path / "f", 1, digest="md5")
