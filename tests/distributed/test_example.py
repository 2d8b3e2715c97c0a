# SPDX-License-Identifier: Apache-2.0
"""`examples/data_parallel.py` in two processes, one of them killed."""

import os
import signal
import subprocess
import sys

import pytest

from tests.distributed.launch import ROOT

PROGRAM = ROOT / "examples" / "data_parallel.py"


def begin(folder, devices, *options):
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, str(PROGRAM), "--figure", "", "--steps", "60", *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def final_loss(out):
    return float(out.rpartition("final loss")[2])


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_that_lost_a_process_goes_on_in_one(tmp_path, victim):
    running, pids = begin(tmp_path, 2, "--processes", "2"), []
    while not (line := running.stdout.readline()).startswith("step   20"):
        assert line, "it ended early"
        pids += [int(line.split()[-1])] if "has pid" in line else []
    os.kill(pids[victim], signal.SIGKILL)
    running.communicate(timeout=120)
    assert running.returncode != 0

    out, _ = begin(tmp_path, 4, "--resume").communicate(timeout=120)
    (tmp_path / "whole").mkdir()
    whole, _ = begin(tmp_path / "whole", 1).communicate(timeout=120)

    assert "resumed after step" in out
    assert final_loss(out) == pytest.approx(final_loss(whole), abs=2e-6)
