# SPDX-License-Identifier: Apache-2.0
"""Compiled steps are kept in the folder of JAX, and found by the next process."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax.numpy as jnp
import brainopt as bo

weights = {k: bo.TrainVar(jnp.ones(3)) for k in "ab"}
opt = bo.optim.SGD({rate}, weights, momentum=0.9, pack=True)

@bo.jit
def my_step(x):
    loss = lambda: sum(((w.value * x) ** 2).sum() for w in weights.values())
    opt.update(bo.grad(loss, weights)())

my_step(2.0)
print(float(weights["a"][0]))
"""


@pytest.mark.long
def test_a_second_process_finds_the_step_of_the_first_under_its_name(tmp_path):
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    kept, told = [], []
    for rate in (0.1, 0.2):  # a rate is no part of the program
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("{rate}", str(rate))],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        names = {path.name for path in tmp_path.iterdir() if "atime" not in path.name}
        kept.append(names)
        told.append(float(done.stdout))

    assert told == pytest.approx([1 - 0.1 * 8, 1 - 0.2 * 8])
    assert any(name.startswith("jit_my_step") for name in kept[0])
    assert kept[1] == kept[0]
