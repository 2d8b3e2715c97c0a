# SPDX-License-Identifier: Apache-2.0
"""The functions of `storage` for Variables of which some belong to another framework.

The value of such a Variable is reached through two callables, `getter` and `setter`,
that are C code wherever the framework keeps it in a plain attribute.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, starmap
from operator import call, is_, itemgetter
from typing import Any

from .._typing import PyTree
from . import storage
from ._cell import Cell


def getters(variables: Sequence[Cell]) -> list[Callable[[], Any]]:
    """Return a function for each Variable that reads its value."""
    return [v._getter() for v in variables]


def setters(variables: Sequence[Cell]) -> list[Callable[[Any], None]]:
    """Return a function for each Variable that stores a value."""
    return [v._setter() for v in variables]


def get(variable: Cell) -> Any:
    """Return the value of one Variable."""
    return variable._committed()


def snapshot(variables: Sequence[Cell]) -> list[Any]:
    """Return the values of all Variables as they are at one instant."""
    reads = getters(variables)
    with storage.lock:
        storage.flush()
        return list(map(call, reads))


def commit_if_unchanged(
    inputs: Sequence[Cell],
    values: Sequence[PyTree],
    variables: Sequence[Cell],
    new: Sequence[PyTree],
) -> bool:
    """Commit ``new`` if every input still holds the value it was read with."""
    reads, writes = getters(inputs), setters(variables)
    with storage.lock:
        storage.flush()
        if not all(map(is_, map(call, reads), values)):
            return False
        storage.commit_each(
            getters(variables), writes, [v._store for v in variables], new
        )
        return True


def run_and_commit(
    compiled: Callable[..., tuple[tuple, Any]],
    arguments: tuple,
    variables: Sequence[Cell],
) -> Any:
    """Call ``compiled``, commit the values it returns, and return the rest.

    One call into C, as `storage.ResidentState.run`. Nothing stays resident, since
    the other framework reads its states without a call of ours.

    Args:
        compiled: returns ``(values, out)``.
        arguments: its positional arguments.
        variables: where the values go, in their order.
    """
    held = storage.Slot()
    # Each stage asks the one before it only when it is itself asked for an item.
    run = map(storage.set_, (held,), starmap(compiled, (arguments,)))
    values = chain.from_iterable(map(itemgetter(0), map(storage.get, (held,))))
    writes = map(call, setters(variables), values)  # type: ignore[arg-type]
    # `run` comes first and leaves its pair in ``held``; only then is `writes` asked for
    # its first item, and reads that pair.
    deque(chain(run, writes), 0)
    return held._value[1]


_SOLE = storage.baseline_refcount(
    call, functools.partial(storage.get, storage.unshared_slot())
)


def shared(variables: Sequence[Cell]) -> list[bool]:
    """For each Variable, whether its value is held elsewhere too."""
    if _SOLE == 0:
        return [True] * len(variables)
    counts = map(sys.getrefcount, map(call, getters(variables)))
    return [count > _SOLE for count in counts]


def none_shared(variables: Sequence[Cell]) -> bool:
    """Whether no value is held by anything but its Variable."""
    return not any(shared(variables))
