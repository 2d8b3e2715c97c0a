# SPDX-License-Identifier: Apache-2.0
"""Faults while a file is written, and strange paths: R5 to R9 and R21."""

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.io import _os, _stream
from brainopt.errors import CheckpointError, CheckpointIOError
from tests.checkpoint.faults import (
    FailingFileSystem,
    RecordingFileSystem,
    crash_states,
    lay_out,
)
from tests.checkpoint.trees import same

OLD = {**{f"w{i}": np.zeros(500, "f4") for i in range(10)}, "epoch": 1}
NEW = {**{f"w{i}": np.ones(500, "f4") for i in range(10)}, "epoch": 2}


def use(monkeypatch, files):
    """Put another file system in the place of the real one."""
    monkeypatch.setattr(_os, "fs", files)


@pytest.fixture
def small_chunks(monkeypatch):
    """Make a small save use many writes."""
    monkeypatch.setattr(_stream, "_CHUNK", 1_000)


def run(*args):
    """Run a worker script; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoint.workers", *map(str, args)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kills", "size"),
    [(40, 32 << 20), pytest.param(500, 32 << 20, marks=pytest.mark.long)],
)
def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path, kills, size):
    told = run("kill", tmp_path, kills, size, 20251)
    assert re.search(f"kills={kills} .* left=0", told), told


@pytest.mark.more
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_two_writers_and_a_reader_never_see_a_mixture(tmp_path, seconds):
    told = run("race", tmp_path, seconds, 1 << 20)
    assert "alive=2 final=7 left=0" in told, told


@pytest.mark.parametrize("times", [100, pytest.param(3000, marks=pytest.mark.long)])
def test_ctrl_c_at_any_moment_leaves_nothing_half_done(tmp_path, times):
    told = run("interrupt", tmp_path, times, 20251)
    hits = int(re.search(r"hits=(\d+)", told)[1])
    assert "left=0" in told and hits > times / 2, told


def test_a_lost_power_supply_leaves_the_old_or_the_new_file(
    tmp_path, monkeypatch, small_chunks
):
    path, files = tmp_path / "f", RecordingFileSystem()
    checkpoint.save(path, OLD)
    before = {str(path): path.read_bytes()}
    with monkeypatch.context() as patch:
        use(patch, files)
        checkpoint.save(path, NEW)
    states = list(crash_states(files.log, before))
    assert len(states) > 100
    for number, (done, state) in enumerate(states):
        folder = tmp_path / str(number)
        folder.mkdir()
        lay_out(state, folder)
        loaded = checkpoint.load(folder / "f")
        assert same(NEW, loaded) or (done < len(files.log) and same(OLD, loaded))


def test_the_model_of_lost_power_finds_a_save_without_fsync(tmp_path, monkeypatch):
    path, files = tmp_path / "f", RecordingFileSystem()
    checkpoint.save(path, OLD)
    before = {str(path): path.read_bytes()}
    use(monkeypatch, files)
    checkpoint.save(path, NEW)
    careless = [call for call in files.log if call[0] not in ("fsync", "sync")]
    whole = (before[str(path)], path.read_bytes())
    assert any(s.get(str(path)) not in whole for _, s in crash_states(careless, before))


ERRORS = {
    "ENOSPC": OSError(errno.ENOSPC, "No space left on device"),
    "EIO": OSError(errno.EIO, "Input/output error"),
    "EINTR": InterruptedError(errno.EINTR, "Interrupted system call"),
    "Ctrl-C": KeyboardInterrupt(),
    "memory": MemoryError(),
}
CALLS = [
    "open_new", "write", "fsync", "replace", "set_mode", "lock", "fstat", "stat",
    "close",
]  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_call_that_fails_leaves_the_old_file(
    tmp_path, monkeypatch, small_chunks, kind, error
):
    path, n = tmp_path / "f", 0
    checkpoint.save(path, OLD)
    old = path.read_bytes()
    while True:
        n += 1
        failing = FailingFileSystem(kind, n, error)
        with monkeypatch.context() as patch:
            use(patch, failing)
            try:
                checkpoint.save(path, NEW)
            except (CheckpointIOError, KeyboardInterrupt, MemoryError) as refusal:
                raised = refusal
            else:
                raised = None
        if not failing.happened:
            break
        assert raised is not None, n
        _check_after_failure(path, old, raised)
    assert n > 1


def _check_after_failure(path, old, raised):
    if isinstance(raised, CheckpointIOError):
        assert str(path) in str(raised) and raised.errno and raised.filename
    new = path.read_bytes() != old
    assert not new or "not confirmed" in str(raised) or not isinstance(raised, OSError)
    assert same(NEW if new else OLD, checkpoint.load(path))
    checkpoint.save(path, NEW)
    assert os.listdir(path.parent) == ["f"]
    path.write_bytes(old)


def test_short_writes_are_completed(tmp_path, monkeypatch, small_chunks):
    path = tmp_path / "f"
    for n in range(1, 12):
        with monkeypatch.context() as patch:
            use(patch, FailingFileSystem("write", n, "short"))
            checkpoint.save(path, NEW)
        assert same(NEW, checkpoint.load(path))


@pytest.mark.parametrize("suffix", ["", ".npz", ".safetensors"])
@pytest.mark.parametrize("kind", ["open_read", "fstat", "read_at"])
def test_a_read_that_fails_names_the_file(tmp_path, monkeypatch, kind, suffix):
    arrays = {name: value for name, value in NEW.items() if name != "epoch"}
    path, n = tmp_path / f"f{suffix}", 0
    checkpoint.save(path, arrays)
    while True:
        n += 1
        failing = FailingFileSystem(kind, n, OSError(errno.EIO, "Input/output error"))
        with monkeypatch.context() as patch:
            use(patch, failing)
            try:
                assert same(arrays, checkpoint.load(path))
                break
            except CheckpointIOError as refusal:
                assert str(path) in str(refusal)
    assert n > 1


class FullDisk(_os.FileSystem):
    """A disk with room for a few bytes more."""

    def __init__(self, room):
        self.room = room

    def write(self, fd, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = super().write(fd, data[: self.room])
        self.room -= done
        return done


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "f", OLD)
    with monkeypatch.context() as patch:
        use(patch, FullDisk(4_000))
        with pytest.raises(CheckpointIOError, match="No space left"):
            checkpoint.save(tmp_path / "f", NEW)
    assert same(OLD, checkpoint.load(tmp_path / "f"))
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_size_limit_leaves_the_old_file_and_is_named(tmp_path):
    told = run("limit", tmp_path, 1 << 20)
    assert "File too large" in told and "final=3 left=0" in told


def test_a_failed_folder_fsync_says_that_the_new_file_is_complete(
    tmp_path, monkeypatch
):
    error = OSError(errno.EIO, "Input/output error")
    use(monkeypatch, FailingFileSystem("sync_folder", 1, error))
    with pytest.raises(CheckpointIOError, match="durability is not confirmed"):
        checkpoint.save(tmp_path / "f", NEW)
    assert same(NEW, checkpoint.load(tmp_path / "f"))


def test_verify_reads_the_file_back_before_it_takes_the_name(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "f", OLD)

    class Lying(_os.FileSystem):
        def write(self, fd, data):
            return super().write(fd, bytes(len(data)))

    use(monkeypatch, Lying())
    with pytest.raises(CheckpointError):
        checkpoint.save(tmp_path / "f", NEW, verify=True)
    assert same(OLD, checkpoint.load(tmp_path / "f"))
    assert os.listdir(tmp_path) == ["f"]


class Windows(FullDisk):
    """A system that neither renames nor removes a file while it is open."""

    renames_open_files = False

    def __init__(self, room):
        super().__init__(room)
        self.open = {}

    def open_new(self, path):
        fd = super().open_new(path)
        self.open[path] = fd
        return fd

    def close(self, fd):
        super().close(fd)
        self.open = {path: other for path, other in self.open.items() if other != fd}

    def replace(self, source, target):
        assert source not in self.open
        super().replace(source, target)

    def unlink(self, path):
        assert path not in self.open
        super().unlink(path)


def test_where_open_files_cannot_be_renamed_they_are_closed(tmp_path, monkeypatch):
    use(monkeypatch, Windows(1 << 20))
    checkpoint.save(tmp_path / "f", OLD)
    use(monkeypatch, Windows(4_000))
    with pytest.raises(CheckpointIOError, match="No space left"):
        checkpoint.save(tmp_path / "f", NEW)
    assert same(OLD, checkpoint.load(tmp_path / "f"))
    assert os.listdir(tmp_path) == ["f"]


def test_temporaries_of_dead_writers_are_removed(tmp_path):
    (tmp_path / ".bopt-0123456789ab.tmp").write_bytes(b"half a file")
    (tmp_path / ".bopt-notmine.tmp").write_bytes(b"somebody's")
    checkpoint.save(tmp_path / "f", NEW)
    assert sorted(os.listdir(tmp_path)) == [".bopt-notmine.tmp", "f"]


def test_the_temporary_of_a_living_writer_stays(tmp_path):
    fd = os.open(tmp_path / ".bopt-0123456789ab.tmp", os.O_CREAT | os.O_RDWR)
    assert _os.fs.lock(fd)
    checkpoint.save(tmp_path / "f", NEW)
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == [".bopt-0123456789ab.tmp", "f"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_of_the_old_file_is_kept(tmp_path, mode):
    checkpoint.save(tmp_path / "f", OLD)
    os.chmod(tmp_path / "f", mode)
    checkpoint.save(tmp_path / "f", NEW)
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == mode


def test_a_new_file_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "f", OLD)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o640


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    checkpoint.save(tmp_path / "there" / "f", OLD)
    (tmp_path / "link").symlink_to(Path("there") / "f")
    checkpoint.save(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert same(NEW, checkpoint.load(tmp_path / "there" / "f"))


def test_a_dangling_link_gets_its_target(tmp_path):
    (tmp_path / "link").symlink_to("f")
    checkpoint.save(tmp_path / "link", NEW)
    assert same(NEW, checkpoint.load(tmp_path / "f"))


def test_a_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").write_text("here")
    for act in (lambda p: checkpoint.save(p, NEW), checkpoint.load):
        with pytest.raises(CheckpointError, match=r"folder|regular"):
            act(tmp_path / "d")
    assert (tmp_path / "d" / "mine").read_text() == "here"


def test_a_fifo_is_refused_at_once_and_stays(tmp_path):
    os.mkfifo(tmp_path / "p")
    for act in (lambda p: checkpoint.save(p, NEW), checkpoint.load, checkpoint.verify):
        with pytest.raises(CheckpointError, match="regular file"):
            act(tmp_path / "p")
    assert stat.S_ISFIFO(os.stat(tmp_path / "p").st_mode)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
def test_a_device_is_refused(device):
    for act in (lambda p: checkpoint.save(p, NEW), checkpoint.load):
        with pytest.raises(CheckpointError, match="regular file"):
            act(device)


@pytest.mark.parametrize("name", ["n" * 250, "ü" * 120, "two\nlines", " ", "a.b.c"])
def test_strange_names_are_names(tmp_path, name):
    checkpoint.save(tmp_path / name, NEW)
    assert same(NEW, checkpoint.load(tmp_path / name))


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(CheckpointIOError, match="No such file"):
        checkpoint.save(tmp_path / "no" / "f", NEW)
    with pytest.raises(CheckpointIOError, match="No such file"):
        checkpoint.load(tmp_path / "f")


def test_a_relative_path_is_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("f", NEW)
    assert same(NEW, checkpoint.load(tmp_path / "f"))
