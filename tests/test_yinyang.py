# SPDX-License-Identifier: Apache-2.0
"""The main job on real input: train, be killed, resume, end in the same state."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("--epochs", "4", "--hidden", "30")


def _start(folder, *arguments, epochs=SMALL):
    script = str(ROOT / "examples" / "yinyang_snn.py")
    return subprocess.Popen(
        [sys.executable, script, *epochs, "--checkpoint", "run.bo", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(folder, *arguments, epochs=SMALL):
    process = _start(folder, *arguments, epochs=epochs)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def _final_state(output):
    return next(line for line in output.splitlines() if line.startswith("final state"))


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = _finish(tmp_path / "whole", "--picture", "")

    process = _start(tmp_path / "killed", "--picture", "")
    for line in process.stdout:
        if line.startswith("epoch   2"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    resumed = _finish(tmp_path / "killed", "--picture", "", "--resume")

    assert "resumed run.bo after epoch" in resumed
    assert _final_state(resumed) == _final_state(whole)


def test_the_run_moves_to_another_device_and_draws_the_picture(tmp_path):
    output = _finish(tmp_path, "--device", "cpu:1", epochs=("--epochs", "2"))

    assert "test accuracy" in output
    assert (tmp_path / "yinyang.png").stat().st_size > 20_000


@pytest.mark.long
def test_the_demo_reaches_its_accuracy(tmp_path):
    output = _finish(tmp_path, "--picture", "", epochs=())

    words = output.split("test accuracy ")[1].split()
    assert float(words[0]) >= 0.94
