# SPDX-License-Identifier: Apache-2.0
"""Nodes as pytrees: the values of their Variables, and a skeleton of all the rest.

The skeleton leaves out names, so two instances of one class with equal settings have
equal tree structures: `jax.tree.map` pairs them and `jax.jit` compiles once for both.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._variable import Variable


class _Hole:
    """The place of a Variable in a skeleton."""

    __slots__ = ("cls", "index", "static")

    def __init__(self, index: int, variable: Variable):
        self.index = index
        self.cls = type(variable)
        self.static = variable._static()

    def key(self):
        return self.index, self.cls, self.static

    def fill(self, value: Any) -> Variable:
        return self.cls._from_static(self.static, value)


class _Link:
    """The place of a node that stands elsewhere in the skeleton too."""

    __slots__ = ("number",)

    def __init__(self, number: int):
        self.number = number


class _Part:
    """The skeleton of one node: its class and its attributes."""

    __slots__ = ("attributes", "cls", "number")

    def __init__(self, number: int, cls: type, attributes: dict[str, Any]):
        self.number = number
        self.cls = cls
        self.attributes = attributes


class Skeleton:
    """Everything of a node but the values of its Variables; hashable, comparable."""

    __slots__ = ("part",)

    def __init__(self, part: _Part):
        self.part = part

    def __hash__(self) -> int:
        return hash((self.part.cls, tuple(self.part.attributes)))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Skeleton) and _same(self.part, other.part)

    def __repr__(self) -> str:
        return f"Skeleton({self.part.cls.__name__})"


def take_apart(node: Any) -> tuple[list[str], list[Variable], Skeleton]:
    """Return the attribute path and Variable of each leaf, and the skeleton."""
    paths: list[str] = []
    found: dict[Variable, _Hole] = {}
    parts: dict[int, _Part] = {}

    def strip(value: Any, path: str) -> Any:
        if isinstance(value, Variable):
            if value not in found:
                found[value] = _Hole(len(found), value)
                paths.append(path)
            return found[value]
        if hasattr(type(value), "_owned_attributes"):
            if id(value) in parts:
                return _Link(parts[id(value)].number)
            part = parts[id(value)] = _Part(len(parts), type(value), {})
            for name, item in value._pytree_attributes():
                part.attributes[name] = strip(item, f"{path}.{name}" if path else name)
            return part
        if isinstance(value, dict):
            items = {k: strip(v, f"{path}.{k}") for k, v in value.items()}
            return type(value), dict(items)
        if isinstance(value, list | tuple):
            items = [strip(v, f"{path}.{i}") for i, v in enumerate(value)]
            return type(value), items
        return value

    skeleton = Skeleton(strip(node, ""))
    return paths, list(found), skeleton


def put_together(skeleton: Skeleton, values: Any) -> Any:
    """Return a new node with new Variables that hold ``values``."""
    values = list(values)
    made: dict[int, Any] = {}
    nodes: dict[int, Any] = {}

    def build(item: Any) -> Any:
        if isinstance(item, _Hole):
            if item.index not in made:
                made[item.index] = item.fill(values[item.index])
            return made[item.index]
        if isinstance(item, _Link):
            return nodes[item.number]
        if isinstance(item, _Part):
            node = nodes[item.number] = item.cls.__new__(item.cls)
            for name, value in item.attributes.items():
                object.__setattr__(node, name, build(value))
            return node
        if type(item) is tuple and len(item) == 2 and isinstance(item[0], type):
            return _rebuild(item[0], item[1], build)
        return item

    return build(skeleton.part)


def _rebuild(kind: type, items: Any, build: Any) -> Any:
    if isinstance(items, dict):
        new = kind.__new__(kind)
        dict.update(new, {key: build(value) for key, value in items.items()})
        return new
    built = [build(value) for value in items]
    if issubclass(kind, list):
        new = kind.__new__(kind)
        list.extend(new, built)
        return new
    return kind(*built) if hasattr(kind, "_fields") else kind(built)


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, _Hole):
        return a.key() == b.key()
    if isinstance(a, _Link):
        return a.number == b.number
    if isinstance(a, _Part):
        return a.cls is b.cls and _same(a.attributes, b.attributes)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray | jax.Array):
        return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())
    try:
        return bool(a == b)
    except Exception:
        return False
