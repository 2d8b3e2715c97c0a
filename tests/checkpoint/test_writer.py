# SPDX-License-Identifier: Apache-2.0
"""One writer to a folder, readers beside it, and what else lies in the folder."""

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint import Manager
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    CheckpointMismatchError,
)
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.faults import FailingFileSystem
from tests.checkpoint.test_write import use

WRITER = """
import sys
from brainopt.checkpoint import Manager
manager = Manager(sys.argv[1], async_=False)
manager.save(1, {"a": 1})
print("saved", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has saved step 1 and goes on."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "saved\n"
    yield child
    child.kill()
    child.communicate()


def test_a_second_process_is_told_who_writes(tmp_path, other):
    manager = Manager(tmp_path, keep=1, async_=False)
    with pytest.raises(CheckpointError, match=f"process {other.pid} on .* since 20"):
        manager.save(2, {"a": 2})
    assert manager.steps() == [1] and manager.restore({"a": 0}) == {"a": 1}


def test_a_killed_process_lets_go_of_its_folder(tmp_path, other):
    other.kill()
    other.wait()
    with Manager(tmp_path, async_=False) as manager:
        manager.save(2, {"a": 2})
        assert manager.steps() == [1, 2]


def save_in_child(folder, queue):
    try:
        Manager(folder, async_=False).save(2, {"a": 2})
        queue.put("saved")
    except CheckpointError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_is_another_process(tmp_path):
    manager = Manager(tmp_path, async_=False)
    manager.save(1, {"a": 1})
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=save_in_child, args=(tmp_path, queue))
    child.start()
    assert f"process {os.getpid()} on" in queue.get(timeout=60)
    child.join()
    manager.save(3, {"a": 3})


def test_managers_of_one_process_share_a_folder(tmp_path):
    one, two = Manager(tmp_path, async_=False), Manager(tmp_path, async_=False)
    one.save(1, 1)
    two.save(2, 2)
    with pytest.raises(CheckpointError, match="later or equal"):
        one.save(2, 3)
    assert two.restore() == 2


def test_a_closed_manager_lets_another_process_write(tmp_path):
    with Manager(tmp_path) as manager:
        manager.save(0, 0)
    run = [sys.executable, "-c", WRITER, str(tmp_path)]
    done = subprocess.run(run, input="\n", capture_output=True, text=True)
    assert done.stdout == "saved\n" and Manager(tmp_path).steps() == [0, 1]


@pytest.mark.parametrize("async_", [False, True])
def test_of_two_saves_of_one_step_at_once_one_is_refused(tmp_path, async_):
    for step in range(20):
        managers = [Manager(tmp_path, keep=None, async_=async_) for _ in range(2)]
        start, said = threading.Barrier(2), []

        def save(number, managers=managers, start=start, said=said, step=step):
            start.wait()
            try:
                managers[number].save(step, {"by": number})
            except CheckpointError:
                said.append(number)

        threads = [threading.Thread(target=save, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for manager in managers:
            manager.close()
        assert len(said) == 1
        assert managers[0].restore(step=step) == {"by": 1 - said[0]}


def test_a_reader_of_the_latest_step_follows_a_writer_that_prunes(tmp_path):
    writer = Manager(tmp_path, keep=1, async_=False)
    reader, done, seen = Manager(tmp_path), threading.Event(), []
    writer.save(0, {"step": 0})

    def write():
        for step in range(1, 150):
            writer.save(step, {"step": step})
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        seen.append(reader.restore()["step"])
    thread.join()
    assert seen == sorted(seen) and reader.restore() == {"step": 149}


def test_a_save_after_one_that_failed_is_still_made(tmp_path, monkeypatch):
    manager = Manager(tmp_path)
    manager.save(0, 0)
    manager.wait()
    error = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        use(patch, FailingFileSystem("write", 1, error))
        manager.save(1, 1)
        manager._saver.finish()
    with pytest.raises(CheckpointIOError, match=r"step-1\.bopt.*No space left"):
        manager.save(2, 2)
    manager.close()
    assert manager.steps() == [0, 2] and manager.restore() == 2


@pytest.mark.parametrize("step", [np.int64(3), np.uint8(3), np.array(3)])
def test_integers_of_numpy_are_steps(tmp_path, step):
    manager = Manager(tmp_path, async_=False)
    manager.save(step, {"a": 1})
    assert manager.steps() == [3] and type(manager.steps()[0]) is int
    assert manager.restore(step=step) == manager.restore(None, step) == {"a": 1}
    assert manager.metrics(step) == {}


@pytest.mark.parametrize("step", [True, np.True_, 3.0, "3", None, -1, 2**63, [1]])
def test_what_is_no_step_is_refused(tmp_path, step):
    with pytest.raises(ValueError, match="step must be"):
        Manager(tmp_path).save(step, 1)


JUNK = ["step-9999999999999999999.bopt", "step-9223372036854775808.bopt",
        "step-01.bopt", "step--1.bopt", "step-1.bopt.tmp", "step-.bopt"]  # fmt: skip


def test_junk_in_the_folder_is_no_step(tmp_path):
    for name in JUNK:
        (tmp_path / name).write_bytes(b"junk")
    manager = Manager(tmp_path, keep=1, async_=False)
    manager.save(1, 1)
    manager.save(2, 2)
    assert manager.steps() == [2]
    assert {*JUNK} <= {*os.listdir(tmp_path)}


@pytest.mark.parametrize("number", [10**400, "x", None, [1], {"a": 1}, True])
def test_a_forged_index_is_worth_nothing(tmp_path, number):
    manager = Manager(tmp_path, async_=False, best=("acc", "max"))
    manager.save(1, 1, {"acc": 0.5})
    table = json.loads((tmp_path / "index.json").read_text())
    table["steps"]["1"]["metrics"] = {"acc": number}
    (tmp_path / "index.json").write_text(json.dumps(table))
    assert manager.best_step() in (None, 1)


def test_the_index_is_json_for_other_readers_too(tmp_path):
    manager = Manager(tmp_path, async_=False, best=("acc", "max"))
    values = [float("nan"), float("inf"), float("-inf"), 0.5]
    for step, value in enumerate(values):
        manager.save(step, step, {"acc": value})

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "index.json").read_text(), parse_constant=refuse)
    assert [manager.metrics(s)["acc"] for s in (1, 2, 3)] == values[1:]
    assert np.isnan(manager.metrics(0)["acc"]) and manager.best_step() == 1


def test_an_index_stays_within_its_own_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("brainopt.checkpoint._index._MAX_BYTES", 1000)
    manager = Manager(tmp_path, keep=None, async_=False, best=("acc", "min"))
    for step in range(30):
        manager.save(step, step, {"acc": step})
    assert (tmp_path / "index.json").stat().st_size <= 1000
    assert manager.best_step() == 0 and manager.metrics(29) == {"acc": 29}


@pytest.mark.parametrize(
    "metrics, said",
    [
        ({"\ud800": 1.0}, "surrogate"),
        ([("l", 1.0)], "a list"),
        ({1: 2.0, "1": 3.0}, "two metrics"),
        ({"a": 1j}, "complex is no number"),
        ({"a": 10**400}, "int is no number"),
    ],
)
def test_odd_metrics_are_refused(tmp_path, metrics, said):
    with pytest.raises(CheckpointError, match=said):
        Manager(tmp_path, async_=False).save(1, 1, metrics)
    assert Manager(tmp_path).steps() == []


ASKED = {
    "steps": lambda m: m.steps(),
    "metrics": lambda m: m.metrics(),
    "restore": lambda m: m.restore(),
    "save": lambda m: m.save(2, 2),
    "resume": lambda m: m.resume({}),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOTDIR, errno.EMFILE])
def test_a_folder_that_cannot_be_read_is_an_error_of_ours(
    tmp_path, monkeypatch, ask, code
):
    manager = Manager(tmp_path, async_=False)
    manager.save(1, 1)
    use(monkeypatch, FailingFileSystem("listdir", 1, OSError(code, os.strerror(code))))
    with pytest.raises(CheckpointIOError, match=os.strerror(code)):
        ask(manager)


def test_a_deleted_folder_is_never_made_again(tmp_path):
    manager = Manager(tmp_path / "d", async_=False)
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(CheckpointIOError, match="No such file"):
        manager.save(1, 1)
    assert os.listdir(tmp_path) == [] and manager.steps() == []


def damaged(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_resume_takes_the_newest_intact_step_and_names_the_others(tmp_path):
    node = FakeNode({"w": np.zeros(2, "f4")})
    manager = Manager(tmp_path, async_=False)
    for step in range(4):
        saved = FakeNode({"w": np.full(2, step, "f4")})
        manager.save(step, {"net": saved, "epoch": step})
    damaged(tmp_path / "step-3.bopt")
    (tmp_path / "step-2.bopt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"(?s)goes on from step 1.*3: .*2: "):
        found = manager.resume({"net": node, "epoch": 0})
    assert (found.step, found.values, list(found.skipped)) == (1, {"epoch": 1}, [3, 2])
    assert (node.state_dict()["w"] == 1).all()


def test_resume_begins_anew_in_an_empty_folder_alone(tmp_path):
    manager = Manager(tmp_path, async_=False)
    assert manager.resume({"epoch": 0}) is None
    (tmp_path / "step-2.bopt").write_bytes(b"")
    with pytest.raises(CheckpointCorruptError, match=r"No step of .* is intact"):
        manager.resume({"epoch": 0})


def test_resume_does_not_pass_over_a_step_that_does_not_fit(tmp_path):
    manager = Manager(tmp_path, async_=False)
    for step in range(2):
        manager.save(step, {"net": FakeNode({"w": np.zeros(2 + step)})})
    with pytest.raises(CheckpointMismatchError):
        manager.resume({"net": FakeNode({"w": np.zeros(2)})})


class Poor(FailingFileSystem):
    """A file system that never can do one thing."""

    def __init__(self, kind, code):
        super().__init__(kind, 0, OSError(code, os.strerror(code)))
        object.__setattr__(self, "n", None)

    def __getattribute__(self, name):
        own = object.__getattribute__(self, name)
        if name != object.__getattribute__(self, "kind"):
            return own

        def refused(*args):
            raise object.__getattribute__(self, "error")

        return refused


CANNOT = [("sync_folder", c) for c in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)]
CANNOT += [("set_mode", c) for c in (errno.EPERM, errno.EACCES, errno.ENOTSUP)]


@pytest.mark.parametrize("kind, code", CANNOT)
def test_a_file_system_that_lacks_something_loses_no_step(
    tmp_path, monkeypatch, kind, code
):
    monkeypatch.setattr("brainopt.checkpoint.io._write._warned", set())
    use(monkeypatch, Poor(kind, code))
    with pytest.warns(UserWarning, match="file system cannot") as told:
        manager = Manager(tmp_path, async_=False)
        for step in range(4):
            manager.save(step, {"a": step})
            checkpoint.save(tmp_path / "f", step)
    assert manager.steps() == [0, 1, 2, 3] and checkpoint.load(tmp_path / "f") == 3
    assert len(told) == 1


@pytest.mark.parametrize("kind", ["sync_folder", "set_mode"])
def test_a_medium_that_fails_stays_an_error(tmp_path, monkeypatch, kind):
    checkpoint.save(tmp_path / "f", 0)
    use(monkeypatch, Poor(kind, errno.EIO))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointIOError):
            checkpoint.save(tmp_path / "f", 1)
