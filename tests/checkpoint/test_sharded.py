# SPDX-License-Identifier: Apache-2.0
"""Sharded checkpoints by one process: any mesh, every damage found, old or new."""

import errno
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.checkpoint import Manager, diff, inspect, load, restore, save, verify
from brainopt.checkpoint.io import _os
from brainopt.errors import CheckpointCorruptError, CheckpointError, CheckpointIOError
from tests.checkpoint.faults import FailingFileSystem
from tests.checkpoint.sharded import number_in, numbered, state, sums, trained
from tests.sharding.nets import at, mesh_of

MESHES = {
    "one device": ((1,), {}),
    "eight, whole": ((8,), {}),
    "eight, divided": ((8,), {"fsdp": "data", "min_size": 0}),
    "four by two": ((4, 2), {"rules": {"*.W": P(None, "model")}}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("sharded") / "run")
    tree = state(8, fsdp="data", min_size=0)
    trained(tree, 2)
    save(path, tree, sharded=True)
    return path, tree, sums(tree), trained(tree, 2)


@pytest.mark.more
@pytest.mark.parametrize(("shape", "rules"), MESHES.values(), ids=MESHES)
def test_it_is_restored_onto_any_mesh_and_training_goes_on(saved, shape, rules):
    path, _, before, losses = saved
    devices = jax.devices()[: int(np.prod(shape))]
    tree = state(*shape, seed=1, devices=devices, **rules)

    assert restore(path, tree) == {"epoch": 0}

    assert sums(tree) == pytest.approx(before, rel=1e-6)
    assert trained(tree, 2) == pytest.approx(losses, abs=2e-7)
    assert tree["both"].net.l1.W.value.devices() == {*devices}


def test_arrays_come_back_to_the_bit(saved, tmp_path):
    path, tree, *_ = saved
    save(tmp_path / "one.bopt", tree)
    save(tmp_path / "folder", tree, sharded=True)

    assert diff(tmp_path / "folder", tmp_path / "one.bopt") == []
    assert diff(path, tmp_path / "folder") != []  # two steps further


def test_load_gives_whole_arrays(saved):
    path, *_ = saved
    loaded = load(path)

    assert loaded["both"]["net.l1.W"].shape == (32, 64)
    assert jnp.issubdtype(loaded["both"]["random"].dtype, jax.dtypes.prng_key)
    assert loaded["epoch"] == 0


def test_inspect_tells_the_tree_and_each_part_is_a_checkpoint(saved):
    path, *_ = saved
    (part,) = [name for name in os.listdir(path) if name.startswith("part")]

    entries = {entry.path: entry for entry in inspect(path).entries}

    assert entries["both.net.l1.W"].shape == (32, 64)
    assert entries["epoch"].value == 0
    assert len(inspect(os.path.join(path, part)).entries) > len(entries)
    verify(path), verify(os.path.join(path, part))


def test_the_manifest_alone_is_no_checkpoint(saved):
    with pytest.raises(CheckpointCorruptError, match="give the folder"):
        load(os.path.join(saved[0], "manifest.bopt"))


VALUES = {
    "bool": np.arange(64) % 3 == 0,
    "int8": np.arange(-32, 32, dtype="i1"),
    "bfloat16": np.arange(64).astype(jnp.bfloat16),
    "complex64": (np.arange(64) * 1j).astype("c8"),
    "int4": np.arange(64).astype(jnp.int4),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("to", [P("data"), P(None, "data"), P()], ids=str)
def test_every_dtype_is_read_in_other_pieces(tmp_path, value, to):
    value, node = value.reshape(8, 8), bo.Node()
    node.v = bo.Variable(jnp.asarray(value))
    node.v.to(at(mesh_of(8), "data"))
    save(tmp_path / "v", node, sharded=True)
    node.v.value = jnp.zeros_like(node.v.value)
    node.v.to(at(mesh_of(8), *to))

    restore(tmp_path / "v", node)

    np.testing.assert_array_equal(np.asarray(node.v.value), value)
    assert node.v.value.sharding.spec == to


def test_every_flipped_bit_is_found(tmp_path):
    node = bo.Node()
    node.v, node.n = bo.Variable(jnp.arange(64.0)), bo.Variable(jnp.arange(3.0))
    node.v.to(at(mesh_of(8), "data"))
    save(tmp_path / "v", node, sharded=True)
    for name in os.listdir(tmp_path / "v"):
        if name.startswith("."):
            continue
        file = tmp_path / "v" / name
        sound = file.read_bytes()
        for place in range(0, len(sound), 7):
            file.write_bytes(
                sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :]
            )
            with pytest.raises((CheckpointCorruptError, CheckpointError)):
                verify(tmp_path / "v")
        file.write_bytes(sound)
    verify(tmp_path / "v")


def test_a_damaged_piece_is_named_and_nothing_is_restored(tmp_path):
    node = bo.Node()
    node.v = bo.Variable(jnp.arange(64.0))
    node.v.to(at(mesh_of(8), "data"))
    save(tmp_path / "v", node, sharded=True)
    (part,) = (tmp_path / "v").glob("part*")
    data = bytearray(part.read_bytes())
    data[data.index(np.arange(16.0, dtype="f4")[8:].tobytes())] ^= 1
    part.write_bytes(data)
    before = node.v.value

    with pytest.raises(CheckpointCorruptError, match=r"v: its bytes in part-"):
        restore(tmp_path / "v", node)

    assert node.v.value is before


@pytest.mark.parametrize("lost", ["part", "manifest"])
def test_a_missing_file_is_named(saved, tmp_path, lost):
    shutil.copytree(saved[0], tmp_path / "run")
    (file,) = (tmp_path / "run").glob(f"{lost}*")
    file.unlink()

    with pytest.raises(CheckpointError, match=lost):
        load(tmp_path / "run")


def test_a_part_of_another_save_is_refused(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    save(tmp_path / "other", saved[1], sharded=True)
    (part,) = (tmp_path / "run").glob("part*")
    (other,) = (tmp_path / "other").glob("part*")
    shutil.copy(other, part)

    with pytest.raises(CheckpointCorruptError, match="belongs to another save"):
        load(tmp_path / "run")


CALLS = ["open_new", "write", "fsync", "replace", "sync_folder", "unlink", "listdir"]


@pytest.mark.parametrize("kind", CALLS)
def test_after_any_failed_call_the_folder_is_the_old_or_the_new(
    tmp_path, monkeypatch, kind
):
    path, nodes = tmp_path / "run", [numbered(0, 64), numbered(1, 64)]
    for n in range(1, 100):
        shutil.rmtree(path, ignore_errors=True)
        save(path, nodes[0], sharded=True)
        faulty = FailingFileSystem(kind, n, OSError(errno.EIO, "broken"))
        monkeypatch.setattr(_os, "fs", faulty)
        try:
            save(path, nodes[1], sharded=True)
            ended = True
        except CheckpointIOError as error:
            ended = "was written, but" in str(error) and "manifest" in str(error)
        monkeypatch.setattr(_os, "fs", _os.FileSystem())
        assert number_in(path) == int(ended)
        save(path, nodes[0], sharded=True)
        assert len(list(path.glob("part*"))) == 1, "leftovers are removed"
        if not faulty.happened:
            break
    assert n > 1 or kind == "unlink"


@pytest.mark.parametrize("call", ["write", "replace", "fsync"])
def test_a_first_save_that_fails_leaves_nothing(tmp_path, monkeypatch, call):
    monkeypatch.setattr(
        _os, "fs", FailingFileSystem(call, 1, OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(CheckpointIOError, match="full"):
        save(tmp_path / "run", numbered(0), sharded=True)

    assert os.listdir(tmp_path) == []


WRONG = {
    "a file": lambda path: path.write_text("text"),
    "other files": lambda path: (path.mkdir(), (path / "mine").write_text("")),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_no_sharded_checkpoint_stays_untouched(tmp_path, make):
    make(tmp_path / "run")
    with pytest.raises(CheckpointError, match="stays untouched"):
        save(tmp_path / "run", {"a": 1}, sharded=True)
    with pytest.raises(CheckpointError, match="folder"):
        save("s3://bucket/run", {"a": 1}, sharded=True)


def test_a_key_seals_every_file(tmp_path):
    save(tmp_path / "run", numbered(1), sharded=True, key=b"secret")

    assert load(tmp_path / "run", key=b"secret")["number"] == 1
    with pytest.raises(CheckpointCorruptError, match="not written with this key"):
        load(tmp_path / "run", key=b"other")


def test_no_array_is_whole_on_a_device_or_read_beyond_its_rows(tmp_path, monkeypatch):
    node = bo.Node()
    node.v = bo.Variable(jnp.arange(1 << 23, dtype="f4").reshape(1 << 13, 1 << 10))
    save(tmp_path / "one.bopt", node)
    node.v.to(at(mesh_of(8), "data"))
    seen = []
    put = jax.device_put
    monkeypatch.setattr(
        jax,
        "device_put",
        lambda x, *a, **k: (seen.append(np.shape(x)), put(x, *a, **k))[1],
    )

    restore(tmp_path / "one.bopt", node)

    assert (1 << 13, 1 << 10) not in seen
    np.testing.assert_array_equal(
        node.v.value[-1], np.arange(1 << 10) + (1 << 23) - (1 << 10)
    )


def test_a_manager_keeps_folders_and_files_of_steps(tmp_path):
    with Manager(tmp_path, keep=2, async_=False) as manager:
        manager.save(0, numbered(0))
    with Manager(tmp_path, keep=2, best=("acc", "max"), sharded=True) as manager:
        for step in (1, 2, 3, 4):
            manager.save(step, numbered(step), {"acc": -step})
        manager.wait()
        assert manager.steps() == [1, 3, 4]
        assert manager.restore()["number"] == 4
        assert manager.restore("best")["number"] == 1
        assert manager.metrics("best") == {"acc": -1.0}
        with pytest.raises(CheckpointError, match="later or equal"):
            manager.save(3, numbered(3)), manager.wait()
        manager.save(3, numbered(3), overwrite=True), manager.wait()
        assert manager.steps() == [1, 3]
    assert sorted(n for n in os.listdir(tmp_path) if re.match("step", n)) == [
        "step-1",
        "step-3",
    ]


def test_a_step_whose_save_did_not_end_is_no_step(tmp_path):
    with Manager(tmp_path, async_=False, sharded=True) as manager:
        manager.save(1, numbered(1)), manager.save(2, numbered(2))
        (tmp_path / "step-2" / "manifest.bopt").unlink()
        assert manager.steps() == [1]
        assert manager.resume({}).step == 1
        manager.save(2, numbered(5))
        assert manager.restore()["number"] == 5


def test_a_damaged_step_is_passed_over(tmp_path):
    with Manager(tmp_path, async_=False, sharded=True) as manager:
        manager.save(1, numbered(1)), manager.save(2, numbered(2))
        (part,) = (tmp_path / "step-2").glob("part*")
        part.write_bytes(part.read_bytes()[:-1])
        with pytest.warns(UserWarning, match="goes on from step 1"):
            assert manager.resume({}).step == 1


def test_verify_reads_every_file_back_before_it_counts(tmp_path, monkeypatch):
    save(tmp_path / "run", numbered(0, 64), sharded=True, verify=True)
    write = _os.fs.write

    def flipping(fd, data):
        data = bytes(data)
        return write(fd, bytes([data[0] ^ 1]) + data[1:] if len(data) > 200 else data)

    monkeypatch.setattr(_os.fs, "write", flipping)
    with pytest.raises(CheckpointCorruptError):
        save(tmp_path / "run", numbered(1, 64), sharded=True, verify=True)

    assert number_in(tmp_path / "run") == 0
