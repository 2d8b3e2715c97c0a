# SPDX-License-Identifier: Apache-2.0
"""Functions as trees: the objects that a function holds, and the rest.

**How it works.** Python copies a closure by reference, so the closure of a copied
object runs on the original. `flatten` lists the objects that a function holds: what a
method is bound to, the arguments of a partial, the cells and defaults of a closure, and
all that of a function which a transform was given. The rest is a structure that
compares by content. `unflatten` makes the same function of other objects. By these two
a function kept as an attribute follows its Node: a deep copy holds copies, and a Node
that JAX rebuilds gets functions that are bound to itself.

A global is no part of a function.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """What makes a function of another one."""

    transform: Callable
    function: Any
    args: tuple[Any, ...]
    options: dict[str, Any]

    def make(self) -> Any:
        """Return a new function."""
        return self.transform(self.function, *self.args, **self.options)


class HasRecipe:
    """Abstract: a function that its recipe makes anew."""

    recipe: Recipe


class Held(NamedTuple):
    """The place of an object that a function holds."""

    number: int


class _Again(NamedTuple):
    """The place of a closure that stands elsewhere in the structure too."""

    number: int


class _Made(NamedTuple):
    """A function: what makes it, what never changes in it, and its parts."""

    make: Callable
    fixed: Any
    parts: tuple[Any, ...]


class Code:
    """A plain function without its cells and defaults; equal by its code."""

    __slots__ = ("function",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, function: types.FunctionType):
        self.function = function

    def __eq__(self, other: Any) -> bool:
        a, b = self.function, other.function
        return a is b or (
            a.__code__ == b.__code__
            and a.__globals__ is b.__globals__
            and a.__name__ == b.__name__
        )

    def empty(self) -> types.FunctionType:
        """Return a new function without contents in its cells."""
        old = self.function
        cells = tuple(types.CellType() for _ in old.__closure__ or ())
        new = types.FunctionType(
            old.__code__, old.__globals__, old.__name__, None, cells
        )
        new.__qualname__, new.__module__ = old.__qualname__, old.__module__
        new.__doc__ = old.__doc__
        return new


UNSET = object()
"""The content of a cell that is not assigned yet."""


def flatten(function: Any) -> tuple[list[Any], Any]:
    """Return the objects that a function holds, and a structure of the rest.

    Anything else but a function is an object that holds itself.
    """
    held: list[Any] = []
    closures: dict[int, _Again] = {}

    def visit(value: Any) -> Any:
        if id(value) in closures:
            return closures[id(value)]
        if type(value) is types.FunctionType:
            closures[id(value)] = _Again(len(closures))
        found = _parts(value)
        if found is None:
            held.append(value)
            return Held(len(held) - 1)
        make, fixed, parts = found
        return _Made(make, fixed, tuple(map(visit, parts)))

    return held, visit(function)


def unflatten(structure: Any, held: Sequence[Any]) -> Any:
    """Return the function of a structure that holds other objects."""
    closures: list[types.FunctionType] = []

    def build(place: Any) -> Any:
        if isinstance(place, Held):
            return held[place.number]
        if isinstance(place, _Again):
            return closures[place.number]
        if not isinstance(place.fixed, Code):
            return place.make(place.fixed, *map(build, place.parts))
        old = place.fixed.function
        new = place.fixed.empty() if place.parts else old
        closures.append(new)  # before its parts, since a closure may hold itself
        _fill(new, old, list(map(build, place.parts)))
        return new

    return build(structure)


def codes(structure: Any) -> Iterator[types.FunctionType]:
    """Yield the plain functions of a structure."""
    if isinstance(structure, _Made):
        if isinstance(structure.fixed, Code):
            yield structure.fixed.function
        for part in structure.parts:
            yield from codes(part)


def is_function(value: object) -> bool:
    """Whether `flatten` goes into a value."""
    return isinstance(value, HasRecipe) or type(value) in _KINDS


_KINDS = {functools.partial, types.FunctionType, types.MethodType}


def _parts(value: Any) -> tuple[Callable, Any, tuple[Any, ...]] | None:
    own = vars(value) if isinstance(value, HasRecipe) else {}
    if "__self__" in own:  # a method that is compiled for its instance
        return bound, own["__func__"], (own["__self__"],)
    if isinstance(value, HasRecipe):
        transform, function, args, options = value.recipe
        fixed = transform, len(args), tuple(options)
        return _transformed, fixed, (function, *args, *options.values())
    if isinstance(value, types.MethodType):
        return bound, value.__func__, (value.__self__,)
    if type(value) is functools.partial:
        fixed = len(value.args), tuple(value.keywords)
        return _partial, fixed, (value.func, *value.args, *value.keywords.values())
    if type(value) is types.FunctionType:
        cells = map(_content, value.__closure__ or ())
        defaults = value.__defaults__ or (), (value.__kwdefaults__ or {}).values()
        return _fill, Code(value), (*cells, *defaults[0], *defaults[1])
    return None


def _transformed(fixed: tuple, function: Callable, *rest: Any) -> Any:
    transform, count, names = fixed
    options = dict(zip(names, rest[count:], strict=True))
    return transform(function, *rest[:count], **options)


def bound(function: Any, owner: Any) -> Any:
    """Return a function as a method of its owner."""
    return function.__get__(owner)


def _partial(fixed: tuple, function: Callable, *rest: Any) -> Any:
    return _transformed((functools.partial, *fixed), function, *rest)


def _fill(new: types.FunctionType, old: types.FunctionType, parts: list[Any]) -> None:
    if not parts:
        return
    cells, defaults = new.__closure__ or (), old.__defaults__ or ()
    for cell, content in zip(cells, parts, strict=False):
        if content is not UNSET:
            cell.cell_contents = content
    rest = parts[len(cells) :]
    new.__defaults__ = tuple(rest[: len(defaults)]) or None
    names = old.__kwdefaults__ or {}
    new.__kwdefaults__ = dict(zip(names, rest[len(defaults) :], strict=True)) or None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNSET


def describe(function: Callable) -> str:
    """Return ``name (file:line)`` of a function, as far as they are known."""
    plain = inspect.unwrap(function)
    name = getattr(plain, "__qualname__", None) or type(plain).__name__
    code = getattr(plain, "__code__", None)
    return (
        name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
    )
