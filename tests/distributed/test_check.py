# SPDX-License-Identifier: Apache-2.0
"""Values that are to be equal in two real processes, and training in both."""

import jax
import pytest

from tests.checkpoint.sharded import state, trained


@pytest.fixture(scope="module")
def seen(processes):
    return [process["check"] for process in processes]


def test_equal_values_pass(seen):
    assert all(process["equal"][0] == "" for process in seen)


@pytest.mark.parametrize("where", ["seeds", "shard", "zero"])
def test_models_from_different_seeds_are_named_by_path_and_process(seen, where):
    for process in seen:
        kind, text, _ = process[where]
        assert kind == "DistributedError"
        assert "l1.W: process 1, unlike process 0" in text
        assert "l1.b" not in text.replace("slots.l1.b", "")


def test_nothing_has_moved_after_the_error(seen):
    assert not any(process["moved"] for process in seen)


def test_a_replicated_value_that_differs_is_found(seen):
    for process in seen:
        assert "l1.b: process 1, unlike process 0" in process["replicated"][1]
        assert "l1.W" not in process["replicated"][1]


def test_a_value_that_one_process_alone_has_is_named(seen):
    assert all("more: process 0 has no such value" in p["more"][1] for p in seen)


def test_one_caller_alone_is_told_who_is_missing(seen):
    text, seconds = seen[0]["alone"][1:]
    assert "process 1 is missing" in text
    assert seconds < 3


@pytest.mark.more
@pytest.mark.parametrize("way", ["DP", "ZeRO-1", "FSDP"])
def test_two_processes_learn_as_one(processes, way):
    expected = trained(state(1, devices=jax.devices()[:1]), 3)
    for process in processes:
        assert process["train"][way] == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("donate", [True, False])
def test_rows_that_each_process_gives_for_itself_are_named(processes, donate):
    for seen in (process["rows"] for process in processes):
        for when in ("rows", "later"):
            kind, text, _ = seen[f"{when}, {donate}"]
            assert kind == "DistributedError" and "bo.sharding.batch" in text
            assert "x: process 1, unlike process 0" in text and "target" not in text
        assert not seen[f"changed, {donate}"]
        assert seen[f"equal, {donate}"][0] == ""


def test_a_setting_in_one_process_returns(processes):
    assert processes[0]["train"]["lr"] < 1


def test_a_move_to_both_processes_needs_no_other_and_sends_nothing(processes):
    assert all(process["move"] == ["", "moved"] for process in processes)
