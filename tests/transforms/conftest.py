# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of transforms."""

import sys

import pytest


@pytest.fixture
def terminal(capfd, monkeypatch):
    """A stderr that says it is a terminal, and a function that returns what it got."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    return lambda: capfd.readouterr().err
