# SPDX-License-Identifier: Apache-2.0
"""Where a checkpoint may be: bytes, open files, the home folder, addresses."""

import builtins
import io
import os
import pathlib

import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.checkpoint import Manager
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
)
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import FLAT, check_format, mixed_tree, same

TREE = mixed_tree(np.random.default_rng(1))


def test_bytes_hold_what_a_file_holds(tmp_path):
    data = checkpoint.dumps(TREE)
    checkpoint.save(tmp_path / "f", TREE)
    assert data == (tmp_path / "f").read_bytes()
    assert same(TREE, checkpoint.loads(data))
    assert same(TREE, checkpoint.loads(bytearray(data)))


def test_bytes_are_restored_verified_and_inspected():
    node = FakeNode({"w": np.ones(3, "f4")})
    data = checkpoint.dumps({"net": FakeNode({"w": np.full(3, 7, "f4")}), "epoch": 2})
    assert checkpoint.restore(data, {"net": node, "epoch": 0}) == {"epoch": 2}
    assert (node.state_dict()["w"] == 7).all()
    checkpoint.verify(data)
    assert [e.path for e in checkpoint.inspect(data).entries] == ["net.w", "epoch"]


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_damaged_bytes_are_refused(place):
    data = bytearray(checkpoint.dumps({"a": np.ones(8)}))
    data[place % len(data)] ^= 4
    with pytest.raises(CheckpointCorruptError, match="the bytes is no intact"):
        checkpoint.loads(bytes(data))


def test_bytes_carry_digest_and_key():
    data = checkpoint.dumps(FLAT, digest="sha256", key=b"secret")
    assert same(FLAT, checkpoint.loads(data, key=b"secret"))
    with pytest.raises(CheckpointCorruptError, match="not written with this key"):
        checkpoint.loads(data, key=b"other")


@pytest.mark.parametrize("offset", [0, 5])
def test_an_open_file_is_written_and_read_from_where_it_stands(tmp_path, offset):
    with open(tmp_path / "f", "w+b") as file:
        file.write(b"x" * offset)
        checkpoint.save(file, TREE)
        file.seek(offset)
        assert same(TREE, checkpoint.load(file))


class Narrow(io.RawIOBase):
    """A file that takes a few bytes at a time, as sockets and pipes do."""

    def __init__(self, limit):
        self.data, self.limit = b"", limit

    def writable(self):
        return True

    def write(self, data):
        part = bytes(memoryview(data)[: min(100, self.limit - len(self.data))])
        self.data += part
        return len(part)


def test_a_file_may_take_a_few_bytes_at_a_time():
    file = Narrow(1 << 20)
    checkpoint.save(file, FLAT)
    assert same(FLAT, checkpoint.loads(file.data))


def test_a_file_that_takes_no_more_is_an_error():
    with pytest.raises(CheckpointIOError, match="takes no bytes"):
        checkpoint.save(Narrow(300), FLAT)


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("hello")
    with open(tmp_path / "f") as file, pytest.raises(CheckpointError, match="binary"):
        checkpoint.load(file)


@pytest.mark.parametrize("name", [3, None, ["a"]])
def test_what_is_no_path_is_named(name):
    with pytest.raises(CheckpointError, match="is no path"):
        checkpoint.save(name, 1)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_is_no_name_is_named(name):
    with pytest.raises(CheckpointError, match="is no name of a file"):
        checkpoint.save(name, 1)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint.save("~/f", FLAT)
    assert same(FLAT, checkpoint.load(tmp_path / "f"))
    with Manager(pathlib.Path("~/runs"), async_=False) as manager:
        manager.save(1, FLAT)
    assert (tmp_path / "runs" / "step-1.bopt").exists()


DOORS = {
    "save": lambda name: checkpoint.save(name, FLAT),
    "load": checkpoint.load,
    "restore": lambda name: checkpoint.restore(name, FakeNode({})),
    "verify": checkpoint.verify,
    "inspect": checkpoint.inspect,
    "Manager": Manager,
    "convert": lambda name: checkpoint.convert(name, name),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_an_address_without_fsspec_says_what_to_install(door, tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "fsspec":
            raise ModuleNotFoundError("No module named 'fsspec'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"brainopt\[cloud\]"):
        door("gs://lab/run1.bopt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_an_address_that_lost_a_slash_makes_no_folder(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="lost a slash"):
        door(pathlib.PurePosixPath("gs://lab/run1.bopt"))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def memory():
    """An empty storage in memory."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.mark.parametrize("suffix", [".bopt", ".npz", ".safetensors"])
def test_an_address_holds_every_format(memory, suffix):
    name = f"memory://lab/f{suffix}"
    assert check_format(name).path == name
    assert memory.ls("/lab", detail=False) == [f"/lab/f{suffix}"]


def test_a_restore_from_an_address_fetches_only_what_it_takes(memory, monkeypatch):
    big = FakeNode({"a": np.ones(1 << 20, "f4"), "b": np.ones(4, "f4")})
    checkpoint.save("memory://f", {"net": big})
    fetched, real = [], type(memory).cat_file

    def counting(self, path, start=None, end=None, **rest):
        fetched.append(end - start)
        return real(self, path, start=start, end=end, **rest)

    monkeypatch.setattr(type(memory), "cat_file", counting)
    checkpoint.restore("memory://f", {"net": big}, only="net.b")
    assert sum(fetched) < 2_000


def test_a_failed_upload_leaves_the_old_object_and_names_the_address(
    memory, monkeypatch
):
    checkpoint.save("memory://f", {"a": 1})

    def refused(*args, **rest):
        raise RuntimeError("credentials have expired")

    monkeypatch.setattr(type(memory), "put_file", refused)
    with pytest.raises(CheckpointIOError, match=r"memory://f.*credentials have"):
        checkpoint.save("memory://f", {"a": 2})
    monkeypatch.undo()
    assert checkpoint.load("memory://f") == {"a": 1}


def test_a_cut_upload_is_an_error(memory, monkeypatch):
    def cut(self, local, path, **rest):
        self.pipe_file(path, pathlib.Path(local).read_bytes()[:50])

    monkeypatch.setattr(type(memory), "put_file", cut)
    with pytest.raises(CheckpointIOError, match="keeps 50 bytes of"):
        checkpoint.save("memory://f", {"a": 2})


def test_what_is_not_at_an_address_is_an_error_of_ours(memory):
    with pytest.raises(CheckpointIOError, match="memory://nothing"):
        checkpoint.load("memory://nothing")


@pytest.mark.parametrize("async_", [False, True])
def test_a_manager_keeps_its_steps_at_an_address(memory, async_):
    net = bo.Node()
    net.w = bo.TrainVar(np.zeros(2, "f4"))
    name = "memory://lab/run"
    settings = {"keep": 2, "best": ("acc", "max"), "async_": async_}
    with Manager(name, **settings) as manager:
        for step, acc in enumerate([0.5, 0.9, 0.7, 0.8]):
            net.w.value = np.full(2, step, "f4")
            manager.save(step, {"net": net}, {"acc": acc})
        manager.wait()
        assert manager.steps() == [1, 2, 3] and manager.best_step() == 1
    again = Manager(name, **settings)
    again.restore({"net": net}, "best")
    assert (net.w.value == 1).all()
    assert again.resume({"net": net}).step == 3 and (net.w.value == 3).all()
    names = {path.rpartition("/")[2] for path in memory.ls("/lab/run", detail=False)}
    assert names == {"index.json", "step-1.bopt", "step-2.bopt", "step-3.bopt"}


def test_a_restore_inside_a_transform_is_refused(tmp_path):
    net = bo.Node()
    net.w = bo.TrainVar(np.zeros(2, "f4"))
    checkpoint.save(tmp_path / "f", {"net": net})
    step = bo.jit(lambda: checkpoint.restore(tmp_path / "f", {"net": net}))
    with pytest.raises(CheckpointError, match="while a function is traced"):
        step()
