# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
NAMES = {"bo": bo, "jax": jax, "jnp": jnp, "np": np}


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(bo.__path__, "brainopt."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for test in finder.find(module, extraglobs=NAMES):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", list(_examples()))
def test_the_example_runs(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []

    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    failed, _ = runner.run(test, out=said.append)

    assert not failed, "".join(said)
