# SPDX-License-Identifier: Apache-2.0
"""The numbers of zlib, whichever library takes them."""

import importlib.util
import sys
import types
import zlib

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.format import _checksum as _crc
from brainopt.checkpoint.format import _layout
from tests.checkpoint.trees import mixed_tree


def fresh():
    """Run the module again, with the packages that are there now."""
    spec = importlib.util.find_spec(_crc.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretend(monkeypatch, crc32):
    package = types.ModuleType("isal")
    package.isal_zlib = types.SimpleNamespace(crc32=crc32)
    monkeypatch.setitem(sys.modules, "isal", package)


def test_isal_takes_the_numbers_of_zlib():
    pytest.importorskip("isal")
    assert _crc.LIBRARY == "isal" and _crc.crc32 is not zlib.crc32
    data = np.random.default_rng(0).bytes(1 << 20)
    view = memoryview(data)
    for start in range(65):
        for length in (0, 1, 7, 63, 64, 100, 1000, 4096, 65_537):
            part = view[start : start + length]
            assert _crc.crc32(part) == zlib.crc32(part), (start, length)
    assert _crc.crc32(view) == zlib.crc32(view)


def test_without_isal_it_is_zlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    module = fresh()
    assert module.LIBRARY == "zlib" and module.crc32 is zlib.crc32


def test_isal_is_used_when_it_agrees(monkeypatch):
    def crc32(data):
        return zlib.crc32(data)

    pretend(monkeypatch, crc32)
    module = fresh()
    assert module.LIBRARY == "isal" and module.crc32 is crc32


def test_isal_is_not_used_when_it_is_wrong_at_one_alignment(monkeypatch):
    calls = []

    def crc32(data):
        calls.append(None)
        return zlib.crc32(data) ^ (len(calls) == 40)

    pretend(monkeypatch, crc32)
    module = fresh()
    assert module.LIBRARY == "zlib" and module.crc32 is zlib.crc32


def test_files_do_not_depend_on_the_library(tmp_path, monkeypatch):
    tree = mixed_tree(np.random.default_rng(1), 300_000)
    checkpoint.save(tmp_path / "one", tree)
    monkeypatch.setattr(_layout, "crc32", zlib.crc32)
    checkpoint.save(tmp_path / "two", tree)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
