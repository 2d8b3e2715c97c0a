# SPDX-License-Identifier: Apache-2.0
"""Which variables of an optimizer move as one array, with ``pack=True``."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import runtime
from ..core import Variable
from ..errors import HyperparameterError, message
from .engine._packs import SMALL, Packed, packed_slots
from .engine._step import Move, OneByOne


def check_pack(kind: Any, pack: bool) -> None:
    """Raise `HyperparameterError` where a class of optimizers cannot pack."""
    if pack and not kind._elementwise:
        raise HyperparameterError(
            message(
                f"{kind.__name__} cannot pack: its rule is not elementwise.",
                [f"it needs {kind._needs}"],
                "leave out pack=True.",
            )
        )


def move_of(optimizer: Any) -> Move:
    """Return the move of the parameters, one by one or in packs."""
    squares = optimizer._squares
    given = optimizer.rule, optimizer.precision, optimizer.seed, squares
    return Packed(*given, _packs(optimizer)) if optimizer.pack else OneByOne(*given)


def note_packs(optimizer: Any) -> None:
    """Tell the program that is being traced which Variables it may hold as one."""
    if not optimizer.pack or runtime.top() is None:
        return
    trained, found = optimizer._trained.variables, []
    for pack in _packs(optimizer):
        found.append(tuple(trained[path] for path in pack))
        slots = optimizer.slots[pack[0]]
        for name in packed_slots(trained[pack[0]].value, _values(slots)):
            found.append(tuple(optimizer.slots[path][name] for path in pack))
    runtime.note_packs(found)


def _packs(optimizer: Any) -> list[list[str]]:
    """Return the paths of variables that have settings, dtypes and slots in common."""
    # A step that may not be taken is a branch, whose results are arrays by themselves.
    if not optimizer.counters.keys().isdisjoint(("skipped", "micro_batches")):
        return []
    packs: dict[Any, list[str]] = {}
    for path, variable in optimizer._trained.variables.items():
        if path in optimizer.frozen or not _is_small(variable):
            continue
        if (alike := _alike(optimizer, path, variable.value)) is not None:
            packs.setdefault(alike, []).append(path)
    return [pack for pack in packs.values() if len(pack) > 1]


def _is_small(variable: Variable) -> bool:
    value = variable.value
    return (
        variable._native
        and isinstance(value, jax.Array)
        and variable.batch_axis is None
        and 0 < value.size <= SMALL
    )


def _alike(optimizer: Any, path: str, value: jax.Array) -> Any:
    """Return what variables of one pack have in common; None for no pack."""
    index = optimizer._settings.index(path, value)
    group, slots = list(optimizer.groups.values())[index], optimizer.slots[path]
    # A variable that has missed steps counts them itself; a constraint sees one whole
    # variable, and so does a sign for each element.
    if "missed_steps" in slots or group.constraint is not None or np.ndim(group.sign):
        return None
    if optimizer.precision == "stochastic":
        return None
    exempt = optimizer.mask is not None and not optimizer.mask(path, value)
    kinds = tuple((name, v.dtype) for name, v in _values(slots).items())
    return index, exempt, value.dtype, kinds


def _values(slots: dict[str, Variable]) -> dict[str, Any]:
    return {name: variable.value for name, variable in slots.items()}
