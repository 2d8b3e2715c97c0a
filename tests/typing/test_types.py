# SPDX-License-Identifier: Apache-2.0
"""Type checkers find in a user's code what the documents promise."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import pytest

import brainopt as bo

HERE = pathlib.Path(__file__).parent
CODE = HERE / "user_code.py"
WRONG = {
    number
    for number, line in enumerate(CODE.read_text("utf-8").splitlines(), 1)
    if "# error: " in line
}
"""The lines that are wrong on purpose; a checker finds these and no others."""

CHECKERS = {
    "pyright": ["--pythonpath", sys.executable],
    "mypy": ["--no-error-summary", "--cache-dir", ".mypy_cache"],
}


@pytest.mark.types
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_finds_the_types_and_the_errors_of_user_code(checker, tmp_path):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; it is in the extra 'check'")
    shutil.copy(CODE, tmp_path)
    paths = dict.fromkeys(("PYTHONPATH", "MYPYPATH"), str(HERE.parents[1]))
    told = subprocess.run(
        [sys.executable, "-m", checker, *CHECKERS[checker], CODE.name],
        cwd=tmp_path,
        env=os.environ | paths,
        capture_output=True,
        text=True,
    ).stdout
    found = re.findall(r"user_code\.py:(\d+)(?::\d+)?(?: -|:) error", told)

    assert {int(number) for number in found} == WRONG, told


def test_at_run_time_a_variable_has_what_checkers_are_told_of_arrays():
    variable = bo.Variable([[1.0, 2.0]])
    public = [name for name in dir(jax.Array) if not name.startswith("_")]
    public.remove("flat")  # not even arrays have it

    assert "sum" in public
    assert [name for name in public if not hasattr(variable, name)] == []
