# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints keeps what it promises, after any failure."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from brainopt.checkpoint import Manager
from brainopt.errors import CheckpointCorruptError, CheckpointError, CheckpointIOError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.faults import FailingFileSystem, RecordingFileSystem
from tests.checkpoint.test_write import run, use


def saved(folder, steps, **settings):
    manager = Manager(folder, async_=False, **settings)
    for step in steps:
        manager.save(step, {"w": np.full(3, step), "step": step}, {"acc": -step})
    return manager


def test_steps_are_in_the_order_of_their_numbers(tmp_path):
    assert saved(tmp_path, [0, 2, 9, 10, 100], keep=None).steps() == [0, 2, 9, 10, 100]


def test_step_zero_is_a_step(tmp_path):
    manager = saved(tmp_path, [0])
    assert manager.restore(step=0)["step"] == 0 == manager.latest_step()
    manager = saved(tmp_path / "b", [0, 5])
    assert manager.restore(step=0)["step"] == 0
    assert manager.restore()["step"] == 5 == manager.restore(step="latest")["step"]


def test_the_last_few_the_round_and_the_best_are_kept(tmp_path):
    manager = saved(tmp_path, range(1, 13), keep=2, keep_every=5, best=("acc", "max"))
    assert manager.steps() == [1, 5, 10, 11, 12]
    assert manager.best_step() == 1
    assert manager.restore(step="best")["step"] == 1
    assert manager.metrics("best") == {"acc": -1.0}


def test_the_best_step_zero_is_kept(tmp_path):
    assert saved(tmp_path, range(4), keep=1, best=("acc", "max")).steps() == [0, 3]


def test_the_smallest_metric_may_be_best_and_nan_never_is(tmp_path):
    manager = Manager(tmp_path, keep=1, best=("loss", "min"), async_=False)
    for step, loss in enumerate([3.0, 1.0, float("nan"), 2.0]):
        manager.save(step, step, {"loss": loss})
    assert manager.best_step() == 1 and manager.steps() == [1, 3]


@pytest.mark.parametrize("step", [3, 4])
def test_a_step_is_not_written_over_or_before_another(tmp_path, step):
    manager = saved(tmp_path, [3, 4])
    with pytest.raises(CheckpointError, match="overwrite=True"):
        manager.save(step, 0)
    assert manager.restore(step=step)["step"] == step


def test_overwrite_removes_the_later_steps_once_the_new_one_is_there(tmp_path):
    manager = saved(tmp_path, [1, 2, 3, 4])
    manager.save(2, "new", overwrite=True)
    assert manager.steps() == [1, 2] and manager.restore() == "new"


def test_nodes_come_back_through_the_manager(tmp_path):
    node = FakeNode({"w": np.arange(3)})
    with Manager(tmp_path) as manager:
        manager.save(7, {"net": node, "epoch": 2})
    other = FakeNode({"w": np.zeros(3, int)})
    assert Manager(tmp_path).restore({"net": other}) == {"epoch": 2}
    assert (other.state_dict()["w"] == np.arange(3)).all()


def test_a_damaged_newest_step_is_reported_and_the_one_before_offered(tmp_path):
    manager = saved(tmp_path, [3, 8, 9])
    newest = Path(manager.path(9))
    data = bytearray(newest.read_bytes())
    data[70] ^= 1
    newest.write_bytes(data)
    with pytest.raises(CheckpointCorruptError, match="pass `step=8`"):
        manager.restore()
    assert manager.restore(step=8)["step"] == 8


def test_a_missing_step_is_told_with_those_that_are_there(tmp_path):
    with pytest.raises(CheckpointError, match="has no steps"):
        Manager(tmp_path).restore()
    with pytest.raises(CheckpointError, match="no step 4: it has"):
        saved(tmp_path, [1]).restore(step=4)


@pytest.mark.parametrize("index", [None, b"", b"{", b'{"steps": 3}', b"[" * 9999])
def test_the_index_is_rebuilt_from_the_files(tmp_path, index):
    saved(tmp_path, [1, 2, 3])
    (tmp_path / "index.json").unlink()
    if index is not None:
        (tmp_path / "index.json").write_bytes(index)
    manager = Manager(tmp_path, best=("acc", "max"))
    assert manager.best_step() == 1 and manager.metrics(2) == {"acc": -2.0}


def test_an_old_index_does_not_outvote_a_file(tmp_path):
    manager = saved(tmp_path, [1, 2], best=("acc", "max"))
    index = (tmp_path / "index.json").read_bytes()
    manager.save(2, 0, {"acc": 100}, overwrite=True)
    (tmp_path / "index.json").write_bytes(index)
    assert manager.best_step() == 2


def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path):
    manager = Manager(tmp_path / "d")
    manager.save(0, 0)
    manager.wait()
    shutil.rmtree(tmp_path / "d")
    manager.save(1, 1)
    with pytest.raises(CheckpointError, match=r"(?s)step-1.*No such file"):
        manager.save(2, 2)
    with pytest.raises(CheckpointError, match=r"(?s)step-2.*No such file"):
        manager.close()


@pytest.mark.parametrize(
    "settings",
    [{"keep": 0}, {"keep": 1.5}, {"keep_every": 0}, {"best": ("a", "most")}],
)
def test_settings_outside_their_range_are_refused(tmp_path, settings):
    with pytest.raises(ValueError):
        Manager(tmp_path, **settings)


def test_an_impossible_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointIOError, match="cannot hold checkpoints") as refused:
        Manager(tmp_path / "file" / "runs")
    assert refused.value.errno == errno.ENOTDIR
    assert refused.value.filename == str(tmp_path / "file" / "runs")


@pytest.mark.parametrize("step", [-1, 1.5, "3", None, True])
def test_a_step_is_a_number_from_zero(tmp_path, step):
    with pytest.raises(ValueError, match="step must be"):
        Manager(tmp_path).save(step, 1)


def test_metrics_are_numbers(tmp_path):
    with pytest.raises(CheckpointError, match="acc: str is no number"):
        Manager(tmp_path).save(1, 1, {"acc": "high"})


@pytest.mark.parametrize("kind", ["write", "fsync", "replace", "unlink", "open_new"])
def test_a_call_that_fails_loses_no_kept_step(tmp_path, monkeypatch, kind):
    n, happened = 0, True
    while happened:
        n += 1
        folder = tmp_path / str(n)
        saved(folder, [1, 2, 3], keep=2)
        failing = FailingFileSystem(kind, n, OSError(errno.EIO, "Input/output error"))
        with monkeypatch.context() as patch:
            use(patch, failing)
            with contextlib.suppress(OSError):
                saved(folder, [4], keep=2)
        happened = failing.happened
        manager = Manager(folder, keep=2, async_=False)
        assert manager.steps()[-1] in (3, 4) and len(manager.steps()) >= 2
        assert all(manager.restore(step=s)["step"] == s for s in manager.steps())
    assert n > 1


def test_the_old_steps_go_only_after_the_new_one_is_durable(tmp_path, monkeypatch):
    saved(tmp_path, [1, 2], keep=2)
    files = RecordingFileSystem()
    use(monkeypatch, files)
    saved(tmp_path, [3], keep=2)
    calls = [(call[0], os.path.basename(call[-1])) for call in files.log]
    new = [i for i, call in enumerate(calls) if call == ("replace", "step-3.bopt")]
    gone = [i for i, call in enumerate(calls) if call == ("unlink", "step-1.bopt")]
    assert any(call[0] == "sync" for call in calls[new[0] : gone[0]])


@pytest.mark.parametrize("kills", [30, pytest.param(300, marks=pytest.mark.long)])
def test_a_killed_run_keeps_its_steps(tmp_path, kills):
    told = run("manage", tmp_path, kills, 20251)
    assert f"kills={kills} " in told and "left=0" in told, told


@pytest.mark.parametrize(
    ("call", "step"),
    [
        (lambda m, n: m.restore("best", n), 2),
        (lambda m, n: m.restore(n, "best"), 2),
        (lambda m, n: m.restore(3, n), 3),
        (lambda m, n: m.restore(step=0, nodes=n), 0),
        (lambda m, n: m.restore("latest", n), 4),
        (lambda m, n: m.restore(n), 4),
    ],
)
def test_the_step_may_stand_first_or_second(tmp_path, call, step):
    manager = Manager(tmp_path, best=("acc", "max"), async_=False)
    for number in range(5):
        node = FakeNode({"w": np.full(2, number)})
        manager.save(number, {"net": node}, {"acc": -abs(number - 2)})
    node = FakeNode({"w": np.zeros(2, int)})
    call(manager, {"net": node})
    assert node.state_dict()["w"][0] == step
    assert manager.restore("best")["net"]["w"][0] == 2


def test_two_managers_of_one_folder_take_no_step_of_each_other(tmp_path, monkeypatch):
    one, two = (Manager(tmp_path, keep=1, async_=False) for _ in range(2))
    write = one._index.write

    def interleaved(steps):
        two.save(2, {"w": 2})  # and removes step 1, which is the older one
        write(steps)

    monkeypatch.setattr(one._index, "write", interleaved)
    one.save(1, {"w": 1})
    assert one.steps() == [2] and one.restore() == {"w": 2}


@pytest.mark.parametrize(
    "best, said",
    [
        (None, r"no best step:\n  this Manager compares no metric\nhelp: .*best="),
        (
            ("accuracy", "max"),
            r"no step .* the metric 'accuracy'.*\n  0: acc\n  5: acc",
        ),
    ],
)
def test_why_there_is_no_best_step_is_said(tmp_path, best, said):
    manager = saved(tmp_path, [0, 5], best=best)
    with pytest.raises(CheckpointError, match=said):
        manager.restore(step="best")


def test_a_manager_says_its_folder_and_what_it_keeps(tmp_path):
    manager = Manager(tmp_path, keep=2, best=("loss", "min"))

    said = f"Manager({str(tmp_path)!r}, keep=2, keep_every=None, best=('loss', 'min'))"
    assert repr(manager) == said
    with pytest.raises(CheckpointError, match=r"has no steps\.\nhelp: .*resume"):
        manager.restore({})
