# SPDX-License-Identifier: Apache-2.0
"""The public face: what it exports, what importing it costs, which version it is."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import brainopt

ROOT = Path(__file__).parents[1]
FACES = (
    "brainopt",
    "brainopt.checkpoint",
    "brainopt.debug",
    "brainopt.errors",
    "brainopt.optim",
)


def _public(face):
    """Yield (path, object) of each class and function that a face shows as its own."""
    for name, value in vars(importlib.import_module(face)).items():
        ours = getattr(value, "__module__", "") or ""
        if name.startswith("_") or not (inspect.isclass(value) or callable(value)):
            continue
        if ours.split(".")[0] == "brainopt":
            yield f"{face}.{name}", value


def _methods(cls):
    for name, value in vars(cls).items():
        plain = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(plain):
            yield name, plain


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_says_what_it_is(face):
    silent = [path for path, value in _public(face) if not inspect.getdoc(value)]

    assert not silent


@pytest.mark.parametrize("face", FACES)
def test_every_public_method_says_what_it_does(face):
    silent = [
        f"{path}.{name}"
        for path, cls in _public(face)
        if inspect.isclass(cls)
        for name, method in _methods(cls)
        if not inspect.getdoc(getattr(cls, name)) and not inspect.getdoc(method)
    ]

    assert not silent


@pytest.mark.parametrize("face", FACES)
def test_a_face_shows_no_stranger(face):
    """What a face imports for itself is not offered to users as its own."""
    module = importlib.import_module(face)

    strangers = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and inspect.ismodule(value)
        and not value.__name__.startswith("brainopt")
    ]

    assert face == "brainopt.errors" or not strangers


def test_import_brings_nothing_but_jax_numpy_and_msgpack():
    program = (
        "import sys, jax, numpy, msgpack;"
        "before = set(sys.modules);"
        "import brainopt;"
        "roots = {m.split('.')[0] for m in set(sys.modules) - before};"
        "known = {m.split('.')[0] for m in before} | sys.stdlib_module_names;"
        "print(*sorted(roots - known))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.split() == ["brainopt"]


def test_import_leaves_optimizers_and_files_until_they_are_used():
    program = "import sys, brainopt; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True
    )

    loaded = set(done.stdout.decode().split())
    assert "brainopt.transforms" in loaded
    assert not loaded & {"brainopt.optim", "brainopt.checkpoint"}


def test_import_starts_no_backend():
    """A user may still choose devices, or join other processes, after the import."""
    nowhere = {**os.environ, "JAX_PLATFORMS": "nowhere"}

    subprocess.run(
        [sys.executable, "-c", "import brainopt"], cwd=ROOT, check=True, env=nowhere
    )


def test_the_version_is_the_newest_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")

    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)

    assert newest and newest[1] == brainopt.__version__


def test_the_version_is_the_one_to_cite():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")

    assert f"\nversion: {brainopt.__version__}\n" in citation
