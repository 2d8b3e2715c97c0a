# SPDX-License-Identifier: Apache-2.0
"""The objects that a function can reach: by closures, globals and named attributes.

A framework without a tracker tells nobody what its models read. Before a function is
compiled, its host looks here for such a model, whose weights would become constants.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any


def used_by(function: Any, args: tuple, kwargs: dict) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, object)`` of what a call of ``function`` may use."""
    yield from within(function)
    yield from _contained("", args)
    yield from _contained("", kwargs)


def within(function: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, object)`` of what a function closes over or is bound to."""
    if isinstance(function, functools.partial):
        parts = [("", function.func), ("", (function.args, function.keywords))]
    elif hasattr(function, "__wrapped__"):
        parts = [("", function.__wrapped__)]
    elif hasattr(function, "__func__"):
        parts = [("", function.__func__), ("self", function.__self__)]
        parts += vars(function.__self__).items() if _has_dict(function) else []
        used = _names(getattr(function.__func__, "__code__", None), _ATTRIBUTES)
        parts += _attributes("self", function.__self__, used, set())
    elif hasattr(function, "__code__"):
        code, cells = function.__code__, function.__closure__ or ()
        parts = [
            (name, cell.cell_contents)
            for name, cell in zip(code.co_freevars, cells, strict=True)
            if not _is_empty(cell)
        ]
        parts += [
            (n, function.__globals__[n])
            for n in _names(code)
            if n in function.__globals__
        ]
        parts += [("", function.__defaults__), ("", function.__kwdefaults__)]
        # Only the attributes that the code names, at any depth: a model holds far more
        # than one function touches.
        used, seen = _names(code, _ATTRIBUTES), set()
        for name, value in list(parts):
            parts += _attributes(name, value, used, seen)
    elif callable(function) and isinstance(type(function).__call__, types.FunctionType):
        parts = [("", types.MethodType(type(function).__call__, function))]
    else:
        return
    for name, value in parts:
        yield from _contained(name, value)
        # A few levels of helper functions; a class is no model yet.
        if depth and callable(value) and not isinstance(value, type):
            yield from within(value, depth - 1)


_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_OTHERS = {"brainopt", "flax", "jax", "numpy", "optax", *sys.stdlib_module_names}
"""Packages whose modules and methods hold no model of the user's."""


def _contained(
    name: str, value: Any, around: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield an object and, of containers, their items."""
    yield name, value
    if isinstance(value, dict | list | tuple) and id(value) not in around:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            yield from _contained(f"{name}[{key}]", item, (*around, id(value)))


def _attributes(
    name: str, value: Any, used: set[str], seen: set[int]
) -> Iterator[tuple[str, Any]]:
    """Yield the attributes and methods of an object that code names."""
    is_module = isinstance(value, types.ModuleType)
    if id(value) in seen or isinstance(value, type):
        return
    if is_module and _is_of_others(value.__name__):
        return
    seen.add(id(value))
    held = getattr(value, "__dict__", {})
    for attribute in used:
        method = getattr(type(value), attribute, None)
        if attribute in held:
            yield f"{name}.{attribute}", held[attribute]
            yield from _attributes(f"{name}.{attribute}", held[attribute], used, seen)
        elif (
            held
            and isinstance(method, types.FunctionType)
            and not _is_of_others(method.__module__)
        ):
            yield f"{name}.{attribute}", types.MethodType(method, value)


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Return what the globals that a function names hold now."""
    held = function.__globals__
    return {name: held[name] for name in _names(function.__code__) if name in held}


def _is_of_others(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _OTHERS


def _has_dict(method: Any) -> bool:
    return hasattr(method.__self__, "__dict__")


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def _names(code: Any, loads: tuple[str, ...] = ("LOAD_GLOBAL",)) -> set[str]:
    """Return the globals that a function reads, or the attributes."""
    if code is None:
        return set()
    # By instruction, since `co_names` has globals and attributes in one list.
    own = {i.argval for i in dis.get_instructions(code) if i.opname in loads}
    inner = [const for const in code.co_consts if hasattr(const, "co_names")]
    return own.union(*(_names(code, loads) for code in inner))
