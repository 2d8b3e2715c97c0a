# SPDX-License-Identifier: Apache-2.0
"""Loops and branches in eager code: compiled once for each function.

**How it works.** Inside a compiled function a loop becomes a part of the program. In
eager code JAX would compile it at every call, since each call hands it a new function.
So `reuse` makes a compiled function (`Jitted`) of the whole loop and keeps it with the
user's function: in its ``__dict__``, where both end together. For a method it is kept
for each instance, which it holds weakly, and so for a Node among the operands. Inside
an eager `grad` or `vmap` the same program is called, and JAX derives or maps what it
has traced already.

**What must never happen.** A program of one closure used for another one, or for
another value of what the closure holds: see `Captures`.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._compat import config, is_staging
from ..core import Transformed
from ..runtime import inside_framework
from ._captures import Captures
from ._errors import refusal
from ._jit import Jitted
from ._packed import nodes_in
from .programs._static import Static

_HOME = "__brainopt_programs__"
_MAX_KEPT = 16
"""The number of programs kept for other values that one function holds."""


def reuse(road: Callable, functions: Sequence[Any], args: tuple, **options: Any) -> Any:
    """Return ``road(functions, args, **options)``, in eager code by a kept program.

    Args:
        road: builds a loop or a branch from the functions of the user.
        functions: those functions.
        args: the arguments to trace, packed.
        options: hashable settings of the road.
    """
    # Inside a trace that becomes code the loop is a part of that code.
    if config.jax_disable_jit or is_staging() or inside_framework():
        return road(functions, args, **options)
    if not functions or not all(map(_is_number, jax.tree.leaves(args))):
        return road(functions, args, **options)
    kept = _kept(road, functions, options, nodes_in(args))
    if kept is None:
        return road(functions, args, **options)
    found = kept.find()
    if found is not None:
        return found(*args)
    made, used = kept.make(road, options)
    # A closure over a tracer (inside an eager `grad`) ends with its trace.
    if used.traced() or refusal(made, (*args, kept.owner()), {}):
        return road(functions, args, **options)
    # Kept after the call, with what the functions hold then: a body that counts its own
    # traces would otherwise be traced anew at every call.
    out = made(*args)
    kept.add(made)
    return out


class _Kept:
    """The programs of some functions, for different values of what these hold.

    Args:
        parts: the functions, methods without their instance.
        bound: which of them are methods.
        owner: the instance of the methods, or None.
    """

    def __init__(self, parts: Sequence[Any], bound: Sequence[bool], owner: object):
        self._parts = parts
        self._bound = bound
        self.owner = _nobody if owner is None else weakref.ref(owner)
        self._programs: list[tuple[Captures, Jitted]] = []

    def _captures(self) -> Captures:
        return Captures((*self._parts, self.owner()))

    def find(self) -> Jitted | None:
        """Return the program of what the functions hold now."""
        for captures, program in self._programs:
            if captures.hold():
                return program
        return None

    def make(self, road: Callable, options) -> tuple[Jitted, Captures]:
        """Return a new program, and what its functions hold."""
        parts, bound, owner = self._parts, self._bound, self.owner

        @functools.wraps(parts[0], updated=())
        def whole(*args):
            this = owner()
            given = [
                part.__get__(this) if is_method else part
                for part, is_method in zip(parts, bound, strict=True)
            ]
            return road(given, args, **options)

        static = Static(lambda *args: None, None, None)
        name = f"bo.{road.__name__.lstrip('_')}"
        return Jitted(whole, static, False, False, {}, name), self._captures()

    def add(self, program: Jitted) -> None:
        """Keep a program, for what its functions hold after it was traced."""
        self._programs.insert(0, (self._captures(), program))
        del self._programs[_MAX_KEPT:]


def _nobody() -> None:
    """Return the owner of functions that are no methods."""


class _Home:
    """Programs kept with one function; neither copied nor pickled with it."""

    def __init__(self, owner: object = None):
        self.owner = None if owner is None else weakref.ref(owner)
        self.kept: dict[Any, Any] = {}

    def __reduce__(self):
        return _Home, ()


def _kept(
    road: Callable, functions: Sequence[Any], options: Any, nodes: Sequence[Any]
) -> _Kept | None:
    """Return where the programs of these functions are kept, or None.

    Args:
        road: see `reuse`.
        functions: see `reuse`.
        options: see `reuse`.
        nodes: handed to the functions, as methods are bound to one.
    """
    split = list(map(_unbound, functions))
    owners = {id(owner): owner for _, owner in split if owner is not None}
    owners |= {id(node): node for node in nodes}
    parts = tuple(part for part, _ in split)
    held = getattr(parts[0], "__dict__", None)
    if len(owners) > 1 or type(held) is not dict:
        return None
    home = held.get(_HOME)
    # `functools.wraps` copies the entry to other functions.
    if home is None or home.owner is None or home.owner() is not parts[0]:
        home = held[_HOME] = _Home(parts[0])
    bound = tuple(owner is not None for _, owner in split)
    # With their types: 1, 1.0 and True are equal keys.
    settings = tuple((name, type(v), v) for name, v in options.items())
    try:
        key = road, parts, bound, settings
        kept = home.kept.get(key)
        owner = next(iter(owners.values()), None)
        if owner is None:
            if kept is None:
                kept = home.kept[key] = _Kept(parts, bound, None)
                _drop_oldest(home.kept)
            return kept
        if kept is None:
            kept = home.kept[key] = weakref.WeakKeyDictionary()
            _drop_oldest(home.kept)
        if owner not in kept:
            kept[owner] = _Kept(parts, bound, owner)
        return kept[owner]
    except TypeError:  # no hash, or no weak reference
        return None


def _drop_oldest(kept: dict) -> None:
    if len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]


def _unbound(function: Any) -> tuple[Any, Any]:
    """Return a function and the instance it is bound to, or None."""
    if hasattr(function, "__func__") and hasattr(function, "__self__"):
        return function.__func__, function.__self__
    method = inspect.getattr_static(type(function), "__call__", None)
    if hasattr(function, "__wrapped__"):  # a function in another form, as by `jit`
        return function, None
    if isinstance(method, types.FunctionType | Transformed):
        return method, function
    return function, None


def _is_number(x: Any) -> bool:
    if isinstance(x, jax.Array | bool | int | float | complex):
        return True
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind not in "OSUmM"
