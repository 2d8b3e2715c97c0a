# SPDX-License-Identifier: Apache-2.0
"""Saving beside the training: R13."""

import _thread
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.checkpoint import _async
from brainopt.checkpoint.tree._file import save_snapshot
from brainopt.checkpoint.tree._snapshot import Snapshot
from brainopt.errors import CheckpointError, CheckpointIOError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same


@pytest.fixture
def slow_disk(monkeypatch):
    """Hold every save until the event is set."""
    gate, real = threading.Event(), _async.write

    def held(*args, **kwargs):
        assert gate.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(_async, "write", held)
    return gate


def test_numpy_written_meanwhile_is_saved_as_it_was(tmp_path, slow_disk):
    array = np.zeros(1000)
    with checkpoint.AsyncSaver() as saver:
        saver.save(tmp_path / "f", {"a": array, "s": array[::2]})
        array += 1
        slow_disk.set()
    loaded = checkpoint.load(tmp_path / "f")
    assert same(loaded, {"a": np.zeros(1000), "s": np.zeros(500)})


def test_arrays_donated_meanwhile_are_saved_as_they_were(tmp_path, slow_disk):
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    value = jnp.zeros(100_000)
    with checkpoint.AsyncSaver() as saver:
        saver.save(tmp_path / "f", {"a": value})
        for _ in range(5):
            value = step(value)
        slow_disk.set()
    assert (checkpoint.load(tmp_path / "f")["a"] == 0).all() and value[0] == 5


@pytest.mark.parametrize("saves", [50, pytest.param(500, marks=pytest.mark.long)])
def test_every_save_beside_donating_training_is_from_one_step(tmp_path, saves):
    net, opt = FakeNode({"W": jnp.zeros(2000)}), FakeNode({"step": jnp.zeros((), int)})
    step = jax.jit(lambda w, n: (w + 1, n + 1), donate_argnums=(0, 1))
    stop = threading.Event()

    def train():
        staged = net._stage_state_dict({}), opt._stage_state_dict({})
        variables = net.variables["W"], opt.variables["step"]
        values = jnp.zeros(2000), jnp.zeros((), int)
        while not stop.is_set():
            values = step(*values)
            own = [jnp.copy(value) for value in values]
            staged[0].pairs = list(zip(variables, own, strict=True))
            staged[0].commit_with(staged[1])

    thread = threading.Thread(target=train)
    thread.start()
    try:
        with checkpoint.AsyncSaver() as saver:
            for _ in range(saves):
                saver.save(tmp_path / "f", {"net": net, "opt": opt})
                saver.wait()
                loaded = checkpoint.load(tmp_path / "f")
                assert (loaded["net"]["W"] == loaded["opt"]["step"]).all()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("suffix", ["", ".npz", ".safetensors"])
def test_the_suffix_chooses_the_format(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    with checkpoint.AsyncSaver() as saver:
        saver.save(path, {"a": np.arange(3.0)})
    assert same(checkpoint.load(path), {"a": np.arange(3.0)})
    assert (path.read_bytes()[:2] == b"\xd9\x0c") == (suffix == "")


def test_one_save_is_in_flight(tmp_path, slow_disk):
    with checkpoint.AsyncSaver() as saver:
        saver.save(tmp_path / "f", 1)
        threading.Timer(0.1, slow_disk.set).start()
        saver.save(tmp_path / "f", 2)
        assert checkpoint.load(tmp_path / "f") in (1, 2)
    assert checkpoint.load(tmp_path / "f") == 2


@pytest.mark.parametrize("next_call", ["save", "wait", "close"])
def test_an_error_is_raised_by_the_next_call_and_once(tmp_path, next_call):
    saver = checkpoint.AsyncSaver()
    saver.save(tmp_path / "no" / "f", 1)
    arguments = (tmp_path / "f", 2) if next_call == "save" else ()
    with pytest.raises(CheckpointIOError, match="No such file"):
        getattr(saver, next_call)(*arguments)
    saver.wait()


def test_what_cannot_be_stored_is_refused_on_the_callers_thread(tmp_path):
    with checkpoint.AsyncSaver() as saver:
        with pytest.raises(CheckpointError, match="bad"):
            saver.save(tmp_path / "f", {"bad": {1}})


def test_an_error_that_nobody_asked_for_is_printed_at_exit(tmp_path):
    script = (
        "import sys; from brainopt.checkpoint import AsyncSaver\n"
        "AsyncSaver().save(sys.argv[1], 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "no" / "f"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "saving" in done.stderr and "No such file" in done.stderr


def test_a_save_in_flight_at_exit_is_finished(tmp_path):
    script = (
        "import sys, numpy as np; from brainopt.checkpoint import AsyncSaver\n"
        "AsyncSaver().save(sys.argv[1], np.ones(1 << 20))"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "f"],
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert checkpoint.load(tmp_path / "f").sum() == 1 << 20


def test_saves_beside_compiled_training_of_a_node_are_from_one_step(tmp_path):
    from brainopt import Node, TrainVar, Variable, jit

    node = Node()
    node.W, node.step = TrainVar(jnp.zeros(50_000)), Variable(jnp.zeros((), "int32"))

    @jit
    def train():
        node.W.value = node.W.value + 1
        node.step.value = node.step.value + 1

    with checkpoint.AsyncSaver() as saver:
        for number in range(20):
            saver.save(tmp_path / str(number), {"net": node})
            for _ in range(3):
                train()
    for number in range(20):
        state = checkpoint.load(tmp_path / str(number))["net"]
        assert state["step"] == 3 * number and (state["W"] == 3 * number).all()


def test_the_error_of_one_saver_is_never_raised_by_another(tmp_path):
    for _ in range(20):  # a new saver may get the id of one that is gone
        lost = checkpoint.AsyncSaver()
        lost.save(tmp_path / "no" / "f", 1)
        lost._job.wait()
        del lost
        checkpoint.AsyncSaver().save(tmp_path / "f", 2)
    _async._failed.clear()


SAVES_AT_EXIT = {
    "sync": "atexit.register(checkpoint.save, path, big)",
    "async": "atexit.register(checkpoint.AsyncSaver().save, path, big)",
    "async, verified": "checkpoint.AsyncSaver().save(path, big, verify=True)",
    "loaded": "checkpoint.save(path, big); atexit.register(checkpoint.load, path)",
    "thread": "threading.Timer(0, checkpoint.save, (path, [big] * 9)).start()",
}


@pytest.mark.parametrize("case", SAVES_AT_EXIT)
def test_a_save_that_begins_or_goes_on_at_exit_is_finished(tmp_path, case):
    script = (
        "import atexit, sys, threading, numpy as np; from brainopt import checkpoint\n"
        f"path, big = sys.argv[1], np.ones(17 << 20, 'i1')\n{SAVES_AT_EXIT[case]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "f"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    checkpoint.verify(tmp_path / "f")
    assert not done.stderr and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_where_no_thread_is_to_be_had_the_caller_saves(tmp_path, monkeypatch):
    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    saver = checkpoint.AsyncSaver()
    saver.save(tmp_path / "f", 1)
    saver.save(tmp_path / "f", 2)
    saver.close()
    assert checkpoint.load(tmp_path / "f") == 2


@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_as_a_save_begins_blocks_no_later_one(tmp_path, monkeypatch, begun):
    real = _thread.start_new_thread

    def interrupted(*args):
        if begun:
            real(*args)
        raise KeyboardInterrupt

    saver = checkpoint.AsyncSaver()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            saver.save(tmp_path / "f", 1)
    saver.save(tmp_path / "f", 2)
    saver.close()
    assert checkpoint.load(tmp_path / "f") == 2 and not saver.saving


def test_threads_may_share_a_saver(tmp_path):
    saver = checkpoint.AsyncSaver()

    def save(name):
        for number in range(20):
            saver.save(tmp_path / name, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, "abcd"))
    saver.close()
    assert [checkpoint.load(tmp_path / name) for name in "abcd"] == [19] * 4


def test_a_random_state_is_kept_from_donation(tmp_path):
    node = bo.Node()
    node.rng = bo.RandomState(0)
    step = bo.jit(node.rng.split_key)
    step()
    expected = np.array(jax.random.key_data(node.rng.value))
    snapshot = Snapshot(node)  # as on a GPU, where no view protects an array
    for _ in range(3):
        step()
    snapshot.block_until_ready()
    save_snapshot(tmp_path / "f", snapshot)
    assert (
        jax.random.key_data(checkpoint.load(tmp_path / "f")["rng"]) == expected
    ).all()
