# SPDX-License-Identifier: Apache-2.0
"""A jax that keeps its own state elsewhere changes the speed and nothing else."""

import subprocess
import sys

import jax
import pytest

from brainopt import _compat

WITHOUT_SHORTCUTS = """
import importlib
find = importlib.import_module
def moved(name, package=None):
    if name.startswith("jax._src"):
        raise ImportError(name)
    return find(name, package)
importlib.import_module = moved

import jax, jax.numpy as jnp
import brainopt as bo
from brainopt import _compat

assert _compat.is_plain.__name__ == "is_plain"
v = bo.Variable(1.0)
step = bo.jit(lambda x: v.update(v.value * x))
for _ in range(3):
    step(2.0)
with jax.disable_jit():
    step(2.0)
jax.config.update("jax_debug_nans", True)
try:
    step(float("nan"))
except FloatingPointError:
    print(float(v.value))
"""


def test_without_the_private_shortcuts_everything_works():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SHORTCUTS], capture_output=True, text=True
    )

    assert done.stdout.split()[-1:] == ["16.0"], done.stderr


def test_the_shortcuts_are_taken_with_the_jax_installed_here():
    assert _compat.is_plain.__name__ == "quick_is_plain"


@pytest.mark.parametrize("setting", ["jax_debug_nans", "jax_debug_infs"])
def test_a_setting_that_changes_how_code_is_compiled_is_seen(setting):
    assert _compat.is_plain()
    jax.config.update(setting, True)
    try:
        assert not _compat.is_plain()
    finally:
        jax.config.update(setting, False)


def test_disabled_compilation_and_tracing_are_seen():
    with jax.disable_jit():
        assert not _compat.is_plain()
    seen = []
    jax.eval_shape(lambda: seen.append(_compat.is_plain()))
    assert seen == [False]
