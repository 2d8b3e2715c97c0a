# SPDX-License-Identifier: Apache-2.0
"""The ``.npz`` door, with NumPy itself as the outside opinion."""

import io
import random
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.errors import CheckpointCorruptError, CheckpointError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

ARRAYS = {
    "a.W": np.arange(6, dtype="f4").reshape(2, 3),
    "zero_d": np.array(3, "i8"),
    "empty": np.zeros((0, 2), "u2"),
    "flags": np.array([True, False]),
    "complex": np.array([1j]),
    "big": np.arange(3, dtype=">f8"),
    "ü": np.arange(3.0),
}


def test_numpy_reads_what_save_writes(tmp_path):
    checkpoint.save(tmp_path / "f.npz", ARRAYS)
    with np.load(tmp_path / "f.npz") as archive:
        read = dict(archive)
    expected = {
        name: np.ascontiguousarray(a).reshape(a.shape) for name, a in ARRAYS.items()
    }
    expected["big"] = expected["big"].astype("<f8")
    assert same(expected, read)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_load_reads_what_numpy_writes(tmp_path, write):
    arrays = ARRAYS | {"fortran": np.asfortranarray(np.arange(6).reshape(2, 3))}
    write(tmp_path / "f.npz", **arrays)
    loaded = checkpoint.load(tmp_path / "f.npz")
    assert same(arrays, loaded) and loaded["fortran"].flags.c_contiguous
    assert all(array.flags.writeable for array in loaded.values())


def test_nodes_go_through_an_npz(tmp_path):
    node = FakeNode({"layers.0.W": np.arange(3.0)}, lr=0.1)
    checkpoint.save(tmp_path / "f.npz", {"net": node})
    assert list(checkpoint.load(tmp_path / "f.npz")) == ["net.layers.0.W"]
    other = FakeNode({"layers.0.W": np.zeros(3)}, lr=0.2)
    with pytest.raises(CheckpointError, match=r"net\.lr: stored 0.1, this"):
        checkpoint.restore(tmp_path / "f.npz", {"net": other})
    checkpoint.restore(tmp_path / "f.npz", {"net": other}, strict=False)
    assert same(other.state_dict(), node.state_dict())
    checkpoint.save(tmp_path / "bare.npz", node)
    checkpoint.restore(tmp_path / "bare.npz", other, strict=False)


@pytest.mark.parametrize(
    "value", [1, "a", None, np.float32(1), jnp.ones(2, "bfloat16"), jax.random.key(1)]
)
def test_what_an_npz_cannot_hold_is_refused_by_path(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"net\.x"):
        checkpoint.save(tmp_path / "f.npz", {"net": {"x": value}})
    assert not (tmp_path / "f.npz").exists()


def test_more_members_than_a_file_of_that_length_can_have_are_refused(
    tmp_path, monkeypatch
):
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        for number in range(40):
            archive.writestr(f"{number}.npy", b"")
    monkeypatch.setattr("brainopt.checkpoint.interop._npz._MAX_MEMBERS", 3)
    with pytest.raises(CheckpointError, match="too many members"):
        checkpoint.load(tmp_path / "f.npz")


@pytest.mark.more
@pytest.mark.parametrize("suffix", [".bopt", ".npz", ".safetensors"])
def test_any_number_of_small_arrays_fits_into_a_file(tmp_path, suffix):
    arrays = {f"p{number}": np.full(1, number, "f4") for number in range(70_000)}
    checkpoint.save(tmp_path / f"f{suffix}", arrays)
    loaded = checkpoint.load(tmp_path / f"f{suffix}")
    assert list(loaded) == list(arrays)
    assert (np.concatenate(list(loaded.values())) == np.arange(70_000)).all()


def npy(value):
    """One number as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, np.float32([value]))
    return file.getvalue()


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("a.npy", npy(1))
        archive.writestr("a", npy(2))
    with pytest.raises(CheckpointCorruptError, match="one name"):
        checkpoint.load(tmp_path / "f.npz")


@pytest.mark.parametrize("packed", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, 8, 0])
def test_damage_to_a_packed_member_is_corruption(tmp_path, packed):
    with zipfile.ZipFile(tmp_path / "f.npz", "w", packed) as archive:
        archive.writestr("a.npy", npy(1))
    good = (tmp_path / "f.npz").read_bytes()
    assert checkpoint.load(tmp_path / "f.npz")["a"] == [1]
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 255
        (tmp_path / "f.npz").write_bytes(data)
        try:
            assert checkpoint.load(tmp_path / "f.npz")["a"] == [1]
        except CheckpointCorruptError:
            continue


def test_two_arrays_of_one_dotted_path_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.b: two arrays"):
        tree = {"a.b": np.ones(1), "a": {"b": np.ones(1)}}
        checkpoint.save(tmp_path / "f.npz", tree)


def bad_members():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }"
    for head in (
        header,
        header.replace(b"<f8", b"|O"),
        header.replace(b"(9,)", b"(-9,)"),
        header.replace(b"(9,)", b"(%d,)" % 2**62),
        header.replace(b"(9,)", b"__import__('os')"),
        b"x" * 60,
    ):
        head = head + b" " * (117 - len(head)) + b"\n"
        yield b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"1234"
    yield b"\x93NUMPY\x09\x00"
    yield b"\x80\x04."
    yield b""


def test_members_that_are_no_plain_arrays_are_refused(tmp_path):
    for member in bad_members():
        with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
            archive.writestr("w.npy", member)
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / "f.npz")


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "f.npz", w=np.array([{}], object))
    with pytest.raises(CheckpointError, match="plain numeric"):
        checkpoint.load(tmp_path / "f.npz")


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", bytes(64 << 20))
    with pytest.raises(CheckpointError, match="too much"):
        checkpoint.load(tmp_path / "f.npz")


def test_a_flipped_bit_raises_a_checkpoint_error_or_changes_no_number(tmp_path):
    rng = random.Random(20251)
    checkpoint.save(tmp_path / "f.npz", ARRAYS)
    good = (tmp_path / "f.npz").read_bytes()
    numbers = sorted(a.tobytes() for a in checkpoint.load(tmp_path / "f.npz").values())
    for _ in range(600):
        bad, bit = bytearray(good), rng.randrange(8 * len(good))
        bad[bit // 8] ^= 1 << bit % 8
        (tmp_path / "g.npz").write_bytes(bad)
        try:
            loaded = checkpoint.load(tmp_path / "g.npz")
        except CheckpointError:
            continue
        assert sorted(a.tobytes() for a in loaded.values()) == numbers, bit


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    for name in (tmp_path, tmp_path / "no"):
        path = name.with_suffix(".npz")
        if name is tmp_path:
            path.mkdir()
        with pytest.raises(CheckpointError, match=r"regular file|No such file"):
            checkpoint.load(path)


def test_numpy_reads_no_bytes_of_an_empty_dict(tmp_path):
    checkpoint.save(tmp_path / "f.npz", {})
    assert checkpoint.load(tmp_path / "f.npz") == {}
    with np.load(io.BytesIO((tmp_path / "f.npz").read_bytes())) as archive:
        assert archive.files == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 4000])
def test_a_name_that_a_zip_would_change_is_refused(tmp_path, name):
    tree = {name: np.ones(2)}
    for _ in range(17 if len(name) > 9 else 0):
        tree = {name: tree}
    with pytest.raises(CheckpointError, match="a name with a NUL, or"):
        checkpoint.save(tmp_path / "f.npz", tree)
