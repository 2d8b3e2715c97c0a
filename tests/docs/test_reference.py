# SPDX-License-Identifier: Apache-2.0
"""The reference has an entry for every public name, and for nothing else."""

import importlib
import importlib.util
import inspect
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
MODULES = [
    ".sharding",
    ".debug",
    ".optim",
    ".checkpoint",
    ".distributed",
    ".errors",
    "",
]
# Public to the other wings, or to authors of errors; no promise to users.
INTERNAL = {"restore_and_compare", "message", "first_line", "printable"}
INTERNAL |= {"compare", "differences", "shared_parts"}


def _listed():
    spec = importlib.util.spec_from_file_location("api", DOCS / "_ext" / "reference.py")
    assert spec is not None and spec.loader is not None
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    pages = sorted((DOCS / "reference").glob("*.md"))
    return [(m, n) for p in pages for m, n, _ in api.entries(p.read_text("utf-8"))]


def _public(module):
    for name in dir(module):
        value = getattr(module, name)
        ours = getattr(value, "__module__", "").startswith("brainopt")
        if ours and not name.startswith("_") and not inspect.ismodule(value):
            yield name


@pytest.mark.parametrize("suffix", MODULES)
def test_every_public_name_has_an_entry(suffix):
    module = importlib.import_module(f"brainopt{suffix}")

    named = {name for owner, name in _listed() if owner == module.__name__}

    assert named == set(_public(module)) - INTERNAL


def test_no_name_has_two_entries():
    listed = _listed()

    assert len(set(listed)) == len(listed)
