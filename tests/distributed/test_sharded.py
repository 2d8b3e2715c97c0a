# SPDX-License-Identifier: Apache-2.0
"""Sharded checkpoints by two real processes."""

import os
import random
import signal
import time

import jax
import pytest

from brainopt.checkpoint import restore, save, verify
from tests.checkpoint import sharded
from tests.checkpoint.sharded import number_in, numbered, state, sums, trained
from tests.distributed.launch import start


@pytest.fixture(scope="module")
def seen(processes):
    return [process["files"] for process in processes]


def test_each_process_writes_a_part(seen):
    parts = [name for name in seen[0]["parts"] if name.startswith("part")]

    assert [name[-7:] for name in parts] == ["-0.bopt", "-1.bopt"]
    assert "manifest.bopt" in seen[0]["parts"]


def test_two_processes_restore_onto_another_mesh(seen):
    assert seen[0]["plain"] == {"epoch": 0}
    for process in seen:
        assert process["after"] == pytest.approx(process["before"], rel=1e-6)
        assert process["resumed"] == pytest.approx(process["next"], abs=2e-7)


@pytest.mark.more
@pytest.mark.parametrize("count", [1, 4, 8])
def test_one_process_goes_on_from_what_two_have_saved(seen, folder, count):
    tree = state(count, seed=1, devices=jax.devices()[:count])
    verify(f"{folder}/run")

    restore(f"{folder}/run", tree)

    assert sums(tree) == pytest.approx(seen[0]["before"], rel=1e-6)
    assert trained(tree, 2) == pytest.approx(seen[0]["next"], abs=2e-7)


@pytest.mark.parametrize("process", [0, 1])
def test_one_caller_alone_is_told_who_is_missing_within_the_limit(seen, process):
    kind, text, seconds = seen[process][f"alone {process}"]

    assert kind == "DistributedError"
    assert f"process {1 - process} is missing" in text
    assert seconds < 3


def test_trees_that_differ_are_named_in_every_process(seen):
    said = "epoch: process 1, unlike process 0"
    assert all(said in process["unlike"][1] for process in seen)


def test_what_one_process_cannot_store_fails_both(seen):
    assert "extra: a builtins.object" in seen[1]["unstorable"][1]
    assert "process 1: These values cannot be stored" in seen[0]["unstorable"][1]


def test_fixed_arrays_that_all_processes_share_are_compared(seen):
    for process in seen:
        as_saved, other = process["constants"]
        assert as_saved == ""
        assert "both.net.same: the constant int64 (2,)" in other
        assert "own" not in other


@pytest.mark.parametrize("full", [0, 1])
def test_a_full_disk_of_one_process_fails_both_and_the_folder_stays(seen, full):
    assert "No space left" in seen[full][f"full {full}"][1]
    assert f"process {full}: " in seen[1 - full][f"full {full}"][1]
    assert all(process["parts after errors"] == seen[0]["parts"] for process in seen)


def test_what_one_process_cannot_restore_changes_neither(seen):
    assert "process 1: " in seen[0]["restore elsewhere"][1]
    assert "No such file" in seen[1]["restore elsewhere"][1]


def test_a_manager_of_two_processes_loses_no_step(seen):
    for process in seen:
        assert process["steps"] == [2, 3]
        assert "later or equal" in process["later"][1]
        assert process["resume"] == 3
        assert process["metrics"] == {"loss": 3.0}


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_kill_of_any_process_the_folder_is_one_complete_save(
    tmp_path, victim, seed
):
    rng, path = random.Random(f"{victim} {seed}"), tmp_path / "run"
    save(path, numbered(0), sharded=True)
    running = start(
        sharded.__file__, "save_for_ever", str(path), 1, processes=4, devices=2
    )
    try:
        while not running[0].stdout.readline().startswith("saved 2"):
            assert running[0].poll() is None, running[0].stderr.read()
        time.sleep(rng.uniform(0.0, 0.3))
        running[victim].send_signal(signal.SIGKILL)
        ended = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()

    told = [int(line.split()[1]) for line in ended[0][0].splitlines()]
    assert number_in(path) >= max(told, default=2)
    verify(path)
    if victim:  # the coordinator tells the others who is missing
        assert f"process {victim} is missing" in ended[0][1]
    save(path, numbered(7), sharded=True)
    assert number_in(path) == 7
    assert len([n for n in os.listdir(path) if n.startswith(("part", ".bopt"))]) == 1
