# SPDX-License-Identifier: Apache-2.0
"""Collectors: dicts of the Variables or Nodes of a model, which refuse conflicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import jax

from .._display import table_html, treescope_dict
from .._typing import PyTree
from ..errors import PathError, message
from ._variable import Variable

Values = dict[str, Any]


Item = TypeVar("Item")
Items: TypeAlias = Mapping[str, Item] | Iterable[tuple[str, Item]]


class Collector(dict[str, Item], Generic[Item]):
    """A dict ``{key: object}`` in which a key never changes its object.

    ``a + b`` joins, ``a - b`` removes (a mapping, or keys or objects), and
    ``unique()`` keeps the first key of each object.
    """

    def __init__(self, items: Items[Item] = ()):
        super().__init__()
        Collector.update(self, items)

    def __setitem__(self, key: str, value: Item) -> None:
        if key in self and self[key] is not value:
            raise PathError(
                message(
                    "Two different objects under one path:",
                    [f"{key}: {_kind(self[key])} and {_kind(value)}"],
                    "rename one of the attributes, or collect the parts under names "
                    "of their own, as in {'a': a, 'b': b}.",
                )
            )
        super().__setitem__(key, value)

    def update(self, *others: Items[Item], **named: Item) -> None:  # type: ignore[override]
        """Add mappings or iterables of pairs; a conflict raises `PathError`."""
        for other in (*others, named):
            items: Any = other.items() if isinstance(other, Mapping) else other
            for key, value in items:
                self[key] = value

    def _like(self, items: Iterable[tuple[str, Any]]) -> Self:
        return type(self)(items)

    def _filter(self, keep: Callable[[str, Any], bool]) -> Self:
        return self._like((k, v) for k, v in self.items() if keep(k, v))

    def __add__(self, other: Any) -> Self:
        new = self._like(self.items())
        new.update(other)
        return new

    __or__ = __add__

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __sub__(self, other: Any) -> Self:
        if isinstance(other, Mapping):
            unfit = [k for k, v in other.items() if self.get(k) is not v]
            gone = set(other)
        else:
            keys = {k for k in other if isinstance(k, str)}
            objects = {id(o): o for o in other if not isinstance(o, str)}
            gone = keys | {k for k, v in self.items() if id(v) in objects}
            unfit = sorted(keys - set(self))
            absent = objects.keys() - {id(v) for v in self.values()}
            unfit += [_kind(objects[key]) for key in absent]
        if unfit:
            raise PathError(message("These are not there to be removed:", unfit))
        return self._filter(lambda key, _: key not in gone)

    def subset(self, *types: type) -> Self:
        """Return the entries that are of one of ``types``."""
        return self._filter(lambda _, value: isinstance(value, types))

    def not_subset(self, *types: type) -> Self:
        """Return the entries that are of none of ``types``."""
        return self._filter(lambda _, value: not isinstance(value, types))

    def include(self, *types: type) -> Self:
        """Return the entries whose class is one of ``types``; derived ones are not."""
        return self._filter(lambda _, value: type(value) in types)

    def exclude(self, *types: type) -> Self:
        """Return the entries whose class is none of ``types``."""
        return self._filter(lambda _, value: type(value) not in types)

    def unique(self) -> Self:
        """Return each object once, under its first key."""
        # `set.add` returns None, so an object passes the first time only.
        seen: set[int] = set()
        return self._filter(
            lambda _, value: not (id(value) in seen or seen.add(id(value)))
        )

    def __repr__(self) -> str:
        lines = "".join(f"\n  {k}: {self._said(v)}" for k, v in self.items())
        return f"{type(self).__name__}({len(self)}){lines}"

    def _repr_html_(self) -> str:
        rows = [(key, self._said(value)) for key, value in self.items()]
        title = f"{type(self).__name__}({len(self)})"
        return table_html(("path", type(self)._item), rows, above=[title])

    def __treescope_repr__(self, path: str | None, render: Any) -> Any:
        return treescope_dict(type(self), dict(self), path, render)

    def _said(self, value: Any) -> str:
        return repr(value)

    _item: ClassVar[str] = "value"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.items()),)


class NodeCollector(Collector[Item], Generic[Item]):
    """``{path or name: Node}``."""

    _item = "class"

    def _said(self, value: Any) -> str:
        return type(value).__name__


class VarCollector(Collector[Variable]):
    """``{path or name: Variable}``, which also knows each Variable's path.

    Attributes:
        paths: the structural path of each Variable, whatever its key is.
    """

    def __init__(
        self, items: Items[Variable] = (), paths: Mapping[Variable, str] | None = None
    ):
        self.paths: dict[Variable, str] = dict(paths or {})
        if isinstance(items, VarCollector):
            self.paths = items.paths | self.paths
        super().__init__(items)

    def __setitem__(self, key: str, value: Variable) -> None:
        if not isinstance(value, Variable):
            raise TypeError(message(f"{key}: a {_kind(value)} is no Variable."))
        super().__setitem__(key, value)
        # The first path is kept: the keys of a shared Variable are aliases of it.
        self.paths.setdefault(value, key)

    def update(self, *others: Items[Variable], **named: Variable) -> None:
        """Add mappings or iterables of pairs; a conflict raises `PathError`."""
        for other in others:
            if isinstance(other, VarCollector):
                for variable, path in other.paths.items():
                    self.paths.setdefault(variable, path)
        super().update(*others, **named)

    def _like(self, items: Iterable[tuple[str, Any]]) -> Self:
        return type(self)(items, self.paths)

    def to_train(self) -> VarCollector:
        """Return what an optimizer trains when it is given this: all of it."""
        return self

    def _models(self) -> list[Any]:
        """Return the models of other frameworks that this was made of."""
        return []

    def data(self) -> list[Any]:
        """Return the values of the Variables, in order."""
        return [variable.value for variable in self.values()]

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the default, which would set the entries before there are any `paths`.
        return type(self), (list(self.items()), self.paths)

    def dict(self) -> Values:  # last: it hides the builtin from what follows
        """Return ``{key: value of the Variable}``."""
        return {key: variable.value for key, variable in self.items()}


def _kind(value: Any) -> str:
    return value.label if isinstance(value, Variable) else type(value).__name__


def _register(cls: type[Collector]) -> None:
    def flatten_with_keys(collector: Collector):
        keys = [(jax.tree_util.DictKey(k), v) for k, v in collector.items()]
        return keys, tuple(collector)

    def flatten(collector: Collector):
        return tuple(collector.values()), tuple(collector)

    def unflatten(keys: Any, children: Iterable[PyTree]) -> Any:
        # Leaves need not be Variables (gradients, numbers, placeholders), so what
        # comes back is a plain dict.
        return dict(zip(keys, children, strict=True))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


_register(NodeCollector)
_register(VarCollector)
