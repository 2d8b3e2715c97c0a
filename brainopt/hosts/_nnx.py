# SPDX-License-Identifier: Apache-2.0
"""The host of flax.nnx.

nnx tells nobody what a model reads, so its variables are Variables outside transforms
only. Inside ``nnx.jit`` the functional core of an optimizer does the work; a state that
was split off is a pytree, and trains in ``bo.jit`` as others do.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ..core import Found, Host
from ..errors import message

_ADVICE = (
    "split the model and use the functional core inside nnx.jit: `params = "
    "nnx.state(model, nnx.Param)`, `params, state = opt.apply(params, state, grads)`, "
    "`nnx.update(model, params)`, with `state = opt.init(params)` once; or attach its "
    "parameters: `graphdef, params, rest = nnx.split(model, nnx.Param, ...)`, `net = "
    "bo.attach(params)`, and `nnx.merge(graphdef, net.model, rest)` for the model "
    "inside `bo.jit` and `bo.grad`; docs/guide/hosts.md says how to keep a rest that "
    "changes."
)


class NnxHost(Host):
    """Finds the variables of nnx modules."""

    package = "flax"
    families = ("flax",)
    minimum = "0.11"
    advice = _ADVICE

    def wake(self) -> None:
        """Learn the classes."""
        from flax import nnx

        self._nnx = nnx
        # Optimizers, metrics and Rngs are no Modules, and hold variables, too.
        self._holders = getattr(nnx, "Pytree", nnx.Object)
        self._by_method = hasattr(nnx.Variable, "get_raw_value")  # flax from 0.12.1 on

    def find(self, obj: Any) -> Found | None:
        """Return the variables of a module, or of a single one."""
        nnx = self._nnx
        if isinstance(obj, nnx.Variable):
            return Found({"": self.variable(obj)})
        if not isinstance(obj, self._holders):
            return None
        found = Found()
        for path, variable in nnx.iter_graph(obj):
            if isinstance(variable, nnx.Variable):
                found[".".join(map(str, path))] = self.variable(variable)
        return found.name_after(obj)

    def trainable(self, owner: Any) -> bool:
        """Whether it is a Param."""
        return isinstance(owner, self._nnx.Param)

    def read(self, owner: Any) -> Any:
        """Return what is stored, of which a `get_value` may make something else."""
        raw = owner.get_raw_value() if self._by_method else owner.raw_value
        return raw[...] if isinstance(raw, jax.Ref) else raw

    def write(self, owner: Any, value: Any) -> None:
        """Change what is stored."""
        raw = owner.get_raw_value() if self._by_method else owner.raw_value
        if isinstance(raw, jax.Ref):
            raw[...] = value
        elif self._by_method:
            owner.set_raw_value(value)
        else:
            owner.raw_value = value

    def refuse(self, function: Callable, args: tuple, kwargs: dict) -> str:
        """Return why ``bo.jit`` cannot compile a function that uses a module."""
        kinds = (self._holders, self._nnx.Variable)
        given = (*_contained("", args), *_contained("", kwargs))
        for name, value in (*within(function), *given):
            if isinstance(value, kinds):
                return message(
                    f"bo.jit cannot compile what uses the nnx {type(value).__name__} "
                    f"{name!r}: it would not see its weights change, nor change them.",
                    help=_ADVICE,
                )
        return ""


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
        used, seen = _names(code, _ATTRIBUTES), set()
        for name, value in list(parts):
            parts += _attributes(name, value, used, seen)
    elif callable(function) and isinstance(type(function).__call__, types.FunctionType):
        parts = [("", types.MethodType(type(function).__call__, function))]
    else:
        return
    for name, value in parts:
        yield from _contained(name, value)
        if depth and callable(value) and not isinstance(value, type):
            yield from within(value, depth - 1)


_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_OTHERS = {"brainopt", "flax", "jax", "numpy", "optax", *sys.stdlib_module_names}
"""Packages whose modules and methods hold no model of the user's."""


def _contained(
    name: str, value: Any, around: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield an object and, of containers, what is in them."""
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
    own = {i.argval for i in dis.get_instructions(code) if i.opname in loads}
    inner = [const for const in code.co_consts if hasattr(const, "co_names")]
    return own.union(*(_names(code, loads) for code in inner))
