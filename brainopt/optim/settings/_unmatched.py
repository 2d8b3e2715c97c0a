# SPDX-License-Identifier: Apache-2.0
"""Warnings of rules that choose no variable."""

from __future__ import annotations

from typing import Any

from ..._select import Choice, warn_of_unmatched
from ..._typing import PyTree
from ..engine._tree import named


def warn_of_unmatched_rules(optimizer: Any, params: PyTree) -> None:
    """Warn of rules with names that none of the variables has."""
    groups = optimizer.groups.values()
    rules = [("groups", g.chosen) for g in groups if g.chosen]
    if optimizer.mask is not None:
        rules.append(("mask", optimizer.mask))
    rules += [("freeze", Choice(where)) for where, _ in optimizer._frozen_later]
    warn_of_unmatched(type(optimizer).__name__, rules, named(params))
