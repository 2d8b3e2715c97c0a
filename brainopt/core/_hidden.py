# SPDX-License-Identifier: Apache-2.0
"""Variables in places that the walk does not enter: closures, sets, plain objects.

They are read like any others, but nothing trains or saves them. So they are looked for
where a model is given to an optimizer or to a file, and told of once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Iterator
from typing import Any

from .._typing import Model
from .._warnings import warn_user
from ..errors import StateWarning, message
from ..runtime import Owner, top
from ._parts import is_atom, parts
from ._variable import Variable, VariableView
from ._walk import collect_vars, foreign_vars, visits, walk_nodes
from .functions._trees import flatten, is_function

_told: set[str] = set()
_DEPTH, _MOST = 4, 1000


def warn_of_hidden(*roots: Model) -> None:
    """Warn of Variables below ``roots`` that no path leads to, once for an attribute.

    Args:
        roots: Nodes, or containers of Nodes.
    """
    if top() is not None:
        return  # in a trace, where each read would count as one of the function
    for root in roots:
        if hidden := _hidden(root):
            # Two objects may stand for one Variable of another framework.
            known = set(collect_vars(root).values())
            for place, variables in hidden:
                _warn(place, [v for v in variables if v not in known])


def _hidden(root: Model) -> list[tuple[str, list[Variable]]]:
    """Return what is found in places that the walk does not enter, by attribute."""
    walk = visits(root)
    nodes = {id(visit.node): visit.node for visit in walk}
    known = nodes.keys() | {id(item) for visit in walk for _, item in visit.items}
    found = []
    for node in nodes.values():
        if isinstance(node, Owner) and node._resets:  # no optimizer, which reads
            borrowed = getattr(node, "_borrowed", ())
            for key, value in _attributes(node):
                place = f"{type(node).__name__}.{key}"
                if place not in _told and key not in borrowed:
                    found.append((place, list(_search(value, root, known))))
    return [(place, variables) for place, variables in found if variables]


def _attributes(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes in which something could be hidden."""
    for key in _of_class(type(node)):
        yield key, getattr(type(node), key)
    for key, value in vars(node).items():
        # Only a closure or a default holds anything in a function.
        is_bare = type(value) is types.FunctionType and not _holds(value)
        if not (is_bare or isinstance(value, _FOUND) or is_atom(value)):
            yield key, value


_FOUND = Variable | Owner | types.BuiltinFunctionType


def _holds(function: types.FunctionType) -> bool:
    held = function.__closure__, function.__defaults__, function.__kwdefaults__
    return any(held) or hasattr(function, "__wrapped__")


@functools.lru_cache(maxsize=512)
def _of_class(cls: type) -> tuple[str, ...]:
    holders = Variable | Owner | list | dict | tuple | set
    return tuple(
        key
        for base in cls.__mro__
        for key, value in vars(base).items()
        if isinstance(value, holders) and key[:2] != "__"
    )


def _warn(place: str, hidden: list[Variable]) -> None:
    if not hidden:
        return
    _told.add(place)
    warn_user(
        message(
            f"{place} holds Variables where they are not found, so nothing trains or "
            "saves them:",
            sorted({variable.label for variable in hidden}),
            "keep them, or the Node that owns them, in an attribute of their own, or "
            "in a list or dict there; or call `node.register_implicit_vars`.",
        ),
        StateWarning,
    )


def _search(value: Any, root: Any, known: Collection[int]) -> Iterator[Variable]:
    """Yield the Variables inside a value; what has one of these ids is left aside."""
    seen: set[int] = set()
    waiting = [(value, _DEPTH)]
    while waiting and len(seen) < _MOST:
        value, depth = waiting.pop()
        if is_atom(value) or id(value) in known or id(value) in seen or depth < 0:
            continue
        seen.add(id(value))
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, Owner):
            # Of a Node above, the root is a part.
            if all(node is not root for _, node in walk_nodes(value)):
                waiting += [(v, 0) for v in collect_vars(value).values()]
        else:
            waiting += [(item, depth - 1) for item in _items(value)]


def _items(value: Any) -> list[Any]:
    if is_function(value):
        return flatten(value)[0]
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, VariableView | type | types.ModuleType):
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if (items := parts(value)) is not None:
        return [item for _, item in items]
    if hasattr(value, "__wrapped__"):  # as of `jax.jit`
        return [value.__wrapped__]
    held = getattr(value, "__dict__", None)
    return list(held.values()) if held and foreign_vars(value) is None else []
