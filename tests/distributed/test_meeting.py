# SPDX-License-Identifier: Apache-2.0
"""Meetings of two real processes: what each gets, and who is missing."""

import pytest

from brainopt.distributed import exchange, initialize
from brainopt.errors import DistributedError


@pytest.fixture(scope="module")
def seen(processes):
    return [process["meeting"] for process in processes]


def test_each_process_gets_what_all_brought(seen):
    assert [s["both"] for s in seen] == [["of 0", "of 1"]] * 2


def test_process_0_decides_for_all(seen):
    assert [s["decided"] for s in seen] == ["0+1"] * 2


def test_what_fails_in_process_0_fails_everywhere(seen):
    assert seen[0]["failed"][0] == "ZeroDivisionError"
    assert "process 0 failed: division by zero" in seen[1]["failed"][1]


def test_who_is_missing_is_named_within_the_limit(seen):
    assert "process 1 is missing" in seen[0]["leader alone"]
    assert "process 0 is missing" in seen[1]["follower alone"]


def test_a_meeting_that_failed_can_be_held_again(seen):
    assert [s["leader again"] for s in seen] == [["now 0", "now 1"]] * 2
    assert [s["follower again"] for s in seen] == [[[f"{i}"] * 2 for i in range(5)]] * 2


def test_one_process_meets_nobody():
    assert exchange("alone", "text", 0.01) == ["text"]


def test_without_a_cluster_initialize_does_nothing(monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert initialize() == 0


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(DistributedError, match="JAX_NUM_PROCESSES='two'"):
        initialize()
