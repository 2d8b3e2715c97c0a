# SPDX-License-Identifier: Apache-2.0
"""Meetings of two real processes: what each gets, and who is missing."""

import time

import pytest

from brainopt.distributed import exchange, initialize
from brainopt.errors import DistributedError
from tests.distributed.launch import launch


def meet(process):
    """Take part in every case below; return what was seen in each."""
    seen = {"both": exchange("both", f"of {process}", 30)}
    seen["leader alone"] = _alone(process == 0, "leader")
    exchange("pause", "", 30)
    seen["leader again"] = exchange("leader", f"now {process}", 30)
    seen["follower alone"] = _alone(process == 1, "follower")
    exchange("pause", "", 30)
    seen["follower again"] = [exchange("follower", f"{i}", 30) for i in range(5)]
    return seen


def _alone(here, name):
    if not here:
        return ""
    start = time.monotonic()
    with pytest.raises(DistributedError) as caught:
        exchange(name, "", 0.5)
    assert time.monotonic() - start < 2
    return str(caught.value)


@pytest.fixture(scope="module")
def seen():
    return launch(__file__, "meet")


def test_each_process_gets_what_all_brought(seen):
    assert [s["both"] for s in seen] == [["of 0", "of 1"]] * 2


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
