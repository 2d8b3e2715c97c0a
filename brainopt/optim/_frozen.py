# SPDX-License-Identifier: Apache-2.0
"""Which variables are frozen: by path, or by the rules that hold for new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._select import Choice
from .._typing import PyTree


def set_frozen(optimizer: Any, paths: Iterable[str]) -> None:
    """Freeze these paths and no others."""
    optimizer.frozen = tuple(sorted(paths))


def freeze_new(optimizer: Any, path: str, param: PyTree) -> bool:
    """Freeze a variable that has come, if a group or an earlier `freeze` says so."""
    found = _is_to_freeze(optimizer, path, param)
    if found:
        set_frozen(optimizer, {*optimizer.frozen, path})
    return found


def frozen_among(optimizer: Any, params: Mapping[str, Any]) -> frozenset[str]:
    """Return the paths of the parameters that a step leaves alone."""
    # The variables of the optimizer may have been unfrozen since they came; parameters
    # of the functional core come anew with each step.
    return frozenset(
        path
        for path, param in params.items()
        if (
            path in optimizer.frozen
            if path in optimizer.slots
            else _is_to_freeze(optimizer, path, param)
        )
    )


def _is_to_freeze(optimizer: Any, path: str, param: PyTree) -> bool:
    found = optimizer.groups[optimizer._settings.index(path, param)].frozen
    for where, is_frozen in optimizer._frozen_later:
        if Choice(where)(path, param):
            found = is_frozen
    return found
