# SPDX-License-Identifier: Apache-2.0
"""Two real processes that save one folder by Orbax."""

import pytest

import brainopt as bo
from brainopt.distributed import exchange
from tests.checkpoint.sharded import constants, said, state, sums
from tests.distributed.launch import launch

pytestmark = pytest.mark.hosts("orbax")


def saving(process, folder):
    """Save what spans both processes and read it; then save differently, and alone."""
    tree = state(4, fsdp="data", min_size=0)
    bo.checkpoint.save(folder, tree, backend="orbax", timeout=60)
    other = state(4, seed=1, fsdp="data", min_size=0)
    bo.checkpoint.restore(folder, other)
    seen = {"saved": sums(tree), "restored": sums(other)}

    def save(what, timeout):
        bo.checkpoint.save(folder, what, backend="orbax", timeout=timeout)

    seen["constants"] = constants(process, folder + "-constants", backend="orbax")
    seen["unlike"] = said(lambda: save(tree if process else {"x": 1}, 60))
    seen["alone"] = said(lambda: save(tree, 1)) if process == 0 else None
    exchange("end", "", 60)
    return seen


def test_two_processes_save_and_one_reads(tmp_path):
    folder = str(tmp_path / "d")
    both = launch(__file__, "saving", folder, devices=2)
    alone = state(8, seed=1)
    bo.checkpoint.restore(folder, alone)

    for seen in both:
        assert seen["restored"] == seen["saved"] == both[0]["saved"]
        assert "process 1 saves another tree" in seen["unlike"][1]
        as_saved, other = seen["constants"]
        assert not as_saved and "net.same" in other and "own" not in other
    assert "process 1 is missing" in both[0]["alone"][1]
    assert sums(alone) == pytest.approx(both[0]["saved"], rel=1e-6)
