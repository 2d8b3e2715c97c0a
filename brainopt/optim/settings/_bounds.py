# SPDX-License-Identifier: Apache-2.0
"""Bounds with a unit, converted to that of the variables they hold for."""

from __future__ import annotations

from typing import Any

from ..._typing import PyTree
from ...core import is_quantity, tree_paths
from ..engine._tree import named


def convert_bounds(optimizer: Any, params: PyTree) -> None:
    """Convert the bounds of each group to the unit of its variables.

    Args:
        optimizer: whose groups; what it trains already is in their units.
        params: new parameters, a tree of arrays and quantities.

    Raises:
        HyperparameterError: the units of a group do not fit.
    """
    groups = list(optimizer.groups.values())
    if all(group.one is None for group in groups):
        return
    settings, slots, trained = optimizer._settings, optimizer.slots, optimizer._trained
    known = {path: variable.value for path, variable in trained.variables.items()}
    fixed = {settings.index(p, x) for p, x in named(known) if p in slots}
    for path, value in tree_paths(params, is_quantity):
        for below, leaf in named({path: value}):
            i = settings.index(below, leaf)
            groups[i].convert_bounds(path, value, i in fixed)
            fixed.add(i)
