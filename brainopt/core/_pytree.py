# SPDX-License-Identifier: Apache-2.0
"""Nodes as pytrees: the values of their Variables, and a skeleton of all the rest.

The skeleton leaves out names, so two instances of one class with equal settings have
equal tree structures: `jax.tree.map` pairs them and `jax.jit` compiles once for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any, NamedTuple

import jax
import numpy as np

from .._typing import PyTree
from ..errors import HostError, message
from ..runtime import Owner, same
from . import _host
from ._foreign import ForeignVariable
from ._parts import emptied, filled, is_atom, is_mutable, parts
from ._paths import join
from ._variable import Variable, VariableView
from ._walk import is_node
from .functions._trees import flatten, is_function, unflatten

_REGISTRIES = ("_implicit_vars", "_implicit_nodes")


class _Hole(NamedTuple):
    """The place of a Variable."""

    number: int
    cls: type[Variable]
    static: tuple[Any, ...]


class _Window(NamedTuple):
    """The place of a view, whose Variable has a place of its own."""

    target: _Hole
    part: Any


class _Link(NamedTuple):
    """The place of a node that stands elsewhere in the skeleton too."""

    number: int
    cls: Any


class _Part(NamedTuple):
    """One node: its class and its attributes."""

    number: int
    cls: Any
    attributes: dict[str, Any]


class _Box(NamedTuple):
    """One container: an empty dict or list, or its class, and what was in it."""

    empty: Any
    keys: tuple[Any, ...]
    items: tuple[Any, ...]


class _Function:
    """The place of a function, and of the objects in the tree that it holds.

    Attributes:
        function: the one that was found there; not compared.
        structure: all of it but the objects that it holds.
        held: places in the tree, or objects that are not in it.
    """

    __slots__ = ("function", "held", "structure")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, function: object):
        self.function = function
        self.held, self.structure = flatten(function)

    def __eq__(self, other: Any) -> bool:
        mine, others = (self.structure, self.held), (other.structure, other.held)
        return self.function is other.function or same(mine, others)


class Skeleton:
    """Everything of a node but the values of its Variables; hashable, comparable."""

    __slots__ = ("part",)

    def __init__(self, part: _Part):
        self.part = part

    # Of the names alone: the attributes may have no hash, and equal skeletons need an
    # equal one.
    def __hash__(self) -> int:
        return hash((self.part.cls, tuple(self.part.attributes)))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Skeleton) and same(self.part, other.part)

    def __repr__(self) -> str:
        return f"Skeleton({self.part.cls.__name__})"


class _TakingApart:
    """One walk through a node; each Variable and node is taken once."""

    def __init__(self):
        self.paths: list[str] = []
        self.holes: dict[Variable, _Hole] = {}
        self.parts: dict[int, _Part] = {}
        self.functions: list[_Function] = []
        self.foreign: list[str] = []

    def strip(self, value: object, path: str) -> Any:
        """Return the skeleton of ``value``."""
        if is_atom(value):
            # A mutable array must not change inside a structure that jax keeps.
            return value.copy() if isinstance(value, np.ndarray) else value
        if isinstance(value, ForeignVariable):
            self.foreign.append(f"{path}: {value.label}")
            return value
        if isinstance(value, Variable):
            if value not in self.holes:
                static = value._static()
                self.holes[value] = _Hole(len(self.holes), type(value), static)
                self.paths.append(path)
            return self.holes[value]
        if isinstance(value, VariableView):
            return _Window(self.strip(value.target, path), value.index)
        if is_node(value):
            return self._node(value, path)
        if is_function(value):
            self.functions.append(_Function(value))
            return self.functions[-1]
        items = parts(value)
        # Noted and refused at the end, with all other models of hosts.
        if items is None and _host.find(value):
            self.foreign.append(f"{path}: {type(value).__name__}")
        return value if items is None else self._container(value, items, path)

    def _node(self, node: Any, path: str) -> _Part | _Link:
        if id(node) in self.parts:
            return _Link(self.parts[id(node)].number, type(node))
        # Entered before its attributes, so that a cycle becomes a link.
        part = self.parts[id(node)] = _Part(len(self.parts), type(node), {})
        for name, item in node._pytree_attributes():
            own = path if name in _REGISTRIES else join(path, name)
            part.attributes[name] = self.strip(item, own)
        return part

    def finish(self) -> None:
        """Replace what functions hold by its place, where it is in the tree.

        Done last, when all places are known: what a function holds is no part of the
        tree by that alone.
        """
        for function in self.functions:
            function.held = [self._place(value) for value in function.held]

    def _place(self, value: Any, above: tuple[int, ...] = ()) -> Any:
        if isinstance(value, Variable):
            return self.holes.get(value, value)
        if isinstance(value, VariableView):
            target = self._place(value.target)
            return value if target is value.target else _Window(target, value.index)
        if is_node(value):
            part = self.parts.get(id(value))
            return value if part is None else _Link(part.number, type(value))
        items = () if is_atom(value) or id(value) in above else parts(value)
        if not (items := list(items or ())):
            return value
        above = (*above, id(value))
        keys, values = zip(*items, strict=True)
        places = [tuple(self._place(x, above) for x in xs) for xs in (keys, values)]
        if all(map(is_, (*keys, *values), (*places[0], *places[1]))):
            return value
        return _Box(emptied(value), *places)

    def _container(self, container: Any, items: Any, path: str) -> Any:
        keys, values = zip(*items, strict=True) if (items := list(items)) else ((), ())
        stripped = tuple(
            self.strip(value, join(path, str(key)))
            for key, value in zip(keys, values, strict=True)
        )
        # Where nothing inside was replaced the container stands for itself, unless it
        # may change.
        whole = not is_mutable(container) and all(
            a is b for a, b in zip(stripped, values, strict=True)
        )
        return container if whole else _Box(emptied(container), keys, stripped)


def take_apart(node: Owner) -> tuple[list[str], list[Variable], Skeleton]:
    """Return the attribute path and Variable of each leaf, and the skeleton.

    Raises:
        HostError: it holds models of other frameworks, or trains them; they stay where
            they are, and an update of copies would be lost.
    """
    walk = _TakingApart()
    skeleton = Skeleton(walk.strip(node, ""))
    walk.finish()
    if walk.foreign:
        raise HostError(
            message(
                f"This {type(node).__name__} is no pytree, since it holds state "
                f"of other frameworks:",
                walk.foreign,
                "let the function close over it, as `bo.jit(lambda: node(x))`, or pass "
                "`node.state_dict()`; inside `nnx.jit` use "
                "`nnx.Optimizer(model, opt.as_optax(), wrt=nnx.Param)`; "
                "keep an optimizer beside a module of brainstate or flax, not in it.",
            )
        )
    return walk.paths, list(walk.holes), skeleton


class _Building:
    """One node being made of a skeleton and new values."""

    def __init__(self, values: Sequence[PyTree]):
        self.values = values
        self.variables: dict[int, Variable] = {}
        self.nodes: dict[int, Any] = {}

    # A Variable or node with several places is made at the first, and used again.
    def build(self, place: object, label: str) -> Any:
        """Return what stands at a place of the skeleton; ``label`` names Variables."""
        if isinstance(place, _Hole):
            if place.number not in self.variables:
                value = self.values[place.number]
                new = place.cls._from_static(place.static, value)
                self.variables[place.number] = new
            variable = self.variables[place.number]
            variable._name = variable._name or label or None
            return variable
        if isinstance(place, _Window):
            return VariableView(self.build(place.target, label), place.part)
        if isinstance(place, _Link):
            return self._empty(place)
        if isinstance(place, _Part):
            node = self._empty(place)
            kind = place.cls.__name__
            for name, value in place.attributes.items():
                own = kind if name in _REGISTRIES else f"{kind}.{name}"
                node.__dict__[name] = self.build(value, own)
            return node
        if isinstance(place, _Box):
            return self._container(place.empty, place.keys, place.items, label)
        if isinstance(place, _Function):
            return self._function(place)
        return place.copy() if isinstance(place, np.ndarray) else place

    # A function may hold a node that comes later, so it is there before its attributes.
    def _empty(self, place: _Part | _Link) -> Any:
        if place.number not in self.nodes:
            # Without ``__init__``, which would make Variables of its own, and past
            # ``__setattr__``, since the attributes have been checked before.
            self.nodes[place.number] = place.cls.__new__(place.cls)
        return self.nodes[place.number]

    def _function(self, place: _Function) -> Any:
        held = [self._held(item) for item in place.held]
        if all(map(is_, held, place.held)):
            return place.function
        return unflatten(place.structure, held)

    def _held(self, item: Any) -> Any:
        if isinstance(item, _Box):
            keys = tuple(map(self._held, item.keys))
            items = tuple(map(self._held, item.items))
            return self._container(item.empty, keys, items, "")
        return self.build(item, "") if isinstance(item, _PLACES) else item

    def _container(self, empty: Any, keys: Any, items: Any, label: str) -> Any:
        built = [
            self.build(item, f"{label}.{key}")
            for key, item in zip(keys, items, strict=True)
        ]
        return filled(empty, keys, built)


_PLACES = _Hole | _Window | _Link


def register(cls: Any) -> None:
    """Register a class of nodes as pytrees whose leaves are named by paths."""

    def flatten_with_keys(node: Owner):
        paths, variables, skeleton = take_apart(node)
        keys = map(jax.tree_util.GetAttrKey, paths)
        values = [variable.value for variable in variables]
        return list(zip(keys, values, strict=True)), skeleton

    jax.tree_util.register_pytree_with_keys(
        cls, flatten_with_keys, cls.tree_unflatten, lambda node: node.tree_flatten()
    )


def put_together(skeleton: Skeleton, values: Iterable[PyTree]) -> Any:
    """Return a new node with new Variables that hold ``values``."""
    return _Building(list(values)).build(skeleton.part, "")
