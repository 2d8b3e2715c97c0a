# SPDX-License-Identifier: Apache-2.0
"""Captures: the values that functions hold beside their arguments, and their changes.

A loop in eager code runs a program of an earlier call. Its body is plain Python, which
may close over a number or name a global that has changed since. So the contents of
cells, the globals that are named, and the attributes of plain objects among both are
compared at each call; the attributes of Nodes are followed by `Facts` anyway.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import call, is_
from typing import Any

import jax
import jax.core

from ..core import Transformed, weakly
from ..runtime import Cell, Owner, same


class Captures:
    """The values that functions close over or name, as they are now.

    Functions among the values are looked into where they come from the same module.

    Args:
        functions: what is called, and the objects that they are bound to.
    """

    __slots__ = ("_cells", "_contents", "_globals", "_owners", "_values")

    def __init__(self, functions: Iterable[Any]):
        self._cells: list[types.CellType] = []
        self._globals: list[tuple[dict[str, Any], str]] = []
        self._add(functions, set())
        owners = [f for f in functions if type(f) is not types.FunctionType]
        self._owners = [weakly(owner) for owner in owners]
        now = self._now()
        self._values = list(map(weakly, now))
        self._contents = list(map(_contents, now))

    def _add(self, functions: Iterable[Any], seen: set[int]) -> None:
        for function in map(_plain, functions):
            if type(function) is not types.FunctionType or id(function) in seen:
                continue
            seen.add(id(function))
            cells = function.__closure__ or ()
            names = [n for n in _names(function.__code__) if n in function.__globals__]
            self._cells += cells
            self._globals += [(function.__globals__, name) for name in names]
            inner = [_content(cell) for cell in cells]
            inner += [function.__globals__[name] for name in names]
            # Into functions of the same module alone: those of a library, as of `jax`,
            # lead to thousands of values, none of which ever changes.
            module = function.__module__
            self._add((f for f in inner if _module_of(f) == module), seen)

    def _now(self) -> list[Any]:
        values = list(map(_content, self._cells))
        values += [held.get(name) for held, name in self._globals]
        values += map(call, self._owners)
        return values

    def hold(self) -> bool:
        """Whether all values are what they were."""
        now = self._now()
        return _are(now, self._values) and all(
            map(_hold_same, now, self._contents),
        )

    def traced(self) -> bool:
        """Whether a value, or one in a list or dict, belongs to a running trace."""
        contents = (item for held in self._contents for item in held or ())
        values = map(call, (*self._values, *contents))
        return any(isinstance(x, jax.core.Tracer) for x in values)


def _are(now: Sequence[Any], before: Sequence[Callable[[], Any]]) -> bool:
    if len(now) != len(before):
        return False
    # By identity, in C, as long as nothing was replaced.
    held = list(map(call, before))
    return all(map(is_, now, held)) or all(map(same, now, held))


def _hold_same(value: object, before: Sequence[Callable[[], Any]] | None) -> bool:
    items = _items(value)
    return (
        before is None if items is None else before is not None and _are(items, before)
    )


def _contents(value: object) -> list[Callable[[], Any]] | None:
    items = _items(value)
    return None if items is None else list(map(weakly, items))


def _items(value: object) -> list[Any] | None:
    """Return what may change in a value in place, without an assignment."""
    if isinstance(value, types.MethodType):
        value = value.__self__
    held = vars_of(value)
    if held is not None:
        value = dict(held)
    found: list[Any] = []
    _collect(value, found, set())
    return found or None


def _collect(value: object, found: list[Any], around: set[int]) -> None:
    """List the items of containers, also of those inside others."""
    if not isinstance(value, list | tuple | dict | set | deque) or id(value) in around:
        return
    around.add(id(value))
    items = [*value, *value.values()] if isinstance(value, dict) else list(value)
    # The length marks where a container ends: [[1], 2] is not [[1, 2]].
    found += [len(items), *items]
    for item in items:
        _collect(item, found, around)


_OPAQUE = Cell | Owner | Transformed | jax.Array | type | types.FunctionType


def vars_of(value: object) -> dict[str, Any] | None:
    """Return the attributes of a plain object; None for objects followed elsewhere."""
    # A Variable is an input and a Node is followed by `Facts`; the namespace of a class
    # or module is too large to compare.
    if isinstance(value, _OPAQUE | types.ModuleType):
        return None
    held = getattr(value, "__dict__", None)
    return held if type(held) is dict else None


def _plain(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return _plain(function.func)
    if isinstance(function, types.MethodType):
        return _plain(function.__func__)
    return inspect.unwrap(function) if callable(function) else function


def _module_of(value: object) -> str | None:
    return getattr(_plain(value), "__module__", None) if callable(value) else None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_named(code)))


def _named(code: types.CodeType) -> Iterator[str]:
    # Names of attributes are among them. One that is a global too is followed in vain:
    # that costs a comparison and gives no wrong result.
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant)
