# SPDX-License-Identifier: Apache-2.0
"""Warnings of rules that choose no variable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..._select import warn_of_unmatched
from ..engine._tree import named

_LIBRARY = str(Path(__file__).parents[2])


def warn_of_unmatched_rules(optimizer: Any, params: Any) -> None:
    """Warn of rules with names that none of the variables has."""
    groups = optimizer.groups.values()
    rules = [("groups", g.chosen) for g in groups if g.chosen]
    if optimizer.mask is not None:
        rules.append(("mask", optimizer.mask))
    warn_of_unmatched(type(optimizer).__name__, rules, named(params), _level())


def _level() -> int:
    """Return the level of the user's line for a warning given one call further down."""
    # A fixed level would show lines of this library: constructors of subclasses, and of
    # frameworks that build an optimizer, add frames.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame, level = frame.f_back, level + 1
    return level - 1
