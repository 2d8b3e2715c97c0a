# SPDX-License-Identifier: Apache-2.0
"""Lists and dicts that take Variables only, or Nodes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Self, SupportsIndex, TypeAlias, TypeVar

import jax

from .._typing import PyTree
from ..errors import PathError, message
from ..runtime import Owner
from ._host import find
from ._variable import Variable
from ._walk import is_node

Item = TypeVar("Item")
AnyNode = TypeVar("AnyNode", bound=Owner)
Items: TypeAlias = Mapping[str, Item] | Iterable[tuple[str, Item]]

# The methods that BrainPy's users chain return self, where those of list and dict
# return nothing; checkers are told so at each.


def _as_variable(item: PyTree) -> Variable:
    return item if isinstance(item, Variable) else Variable(item)


def _as_node(item: AnyNode) -> AnyNode:
    if not is_node(item) and find(item) is None:
        raise TypeError(
            message(
                f"A {type(item).__name__} is no Node.",
                help="of other frameworks it takes models that `bo.attach` takes.",
            )
        )
    return item


class _List(list[Item], Generic[Item]):
    """Abstract: a list that admits items of one kind, whichever way they come in."""

    _admit: Callable[[Any], Item]

    def __init__(self, items: Iterable[Item] = ()):
        super().__init__(map(self._admit, items))

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _register_list(cls)

    def append(self, item: Item | PyTree) -> Self:  # type: ignore[override]
        """Add one item; returns self."""
        super().append(self._admit(item))
        return self

    def extend(self, items: Iterable[Item | PyTree]) -> Self:  # type: ignore[override]
        """Add several items; returns self."""
        # A list first, so that an item that is refused leaves nothing of the others.
        super().extend(list(map(self._admit, items)))
        return self

    __iadd__ = extend  # type: ignore[assignment]

    def insert(self, index: SupportsIndex, item: Item | PyTree) -> None:
        """Insert one item before ``index``."""
        super().insert(index, self._admit(item))


class _Dict(dict[str, Item], Generic[Item]):
    """Abstract: a dict that admits items of one kind, whichever way they come in."""

    def __init__(self, items: Items[Item] = (), **named: Item):
        super().__init__()
        self.update(items, **named)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _register_dict(cls)

    def update(self, *others: Items[Item | PyTree], **named: Item | PyTree) -> Self:  # type: ignore[override]
        """Set the entries of mappings or iterables of pairs; returns self."""
        # One by one, since `dict.update` does not call ``__setitem__``.
        for key, value in _pairs(*others, named):
            self[key] = value
        return self

    __ior__ = update  # type: ignore[assignment]

    def setdefault(self, key: str, default: Item | PyTree = None) -> Item:  # type: ignore[override]
        """Return the item under ``key``, after setting it where there was none."""
        if key not in self:
            self[key] = default  # type: ignore[assignment]  # refused where it is None
        return self[key]


def _pairs(*others: Any) -> Iterator[tuple[Any, Any]]:
    for other in others:
        yield from other.items() if isinstance(other, Mapping) else other


def _register_list(cls: type[_List]) -> None:
    def unflatten(_: None, children: Iterable[PyTree]) -> _List:
        new = cls.__new__(cls)
        # Past `_admit`: JAX fills trees with gradients and placeholders too.
        list.extend(new, children)
        return new

    jax.tree_util.register_pytree_node(cls, lambda x: (tuple(x), None), unflatten)


def _register_dict(cls: type[_Dict]) -> None:
    def unflatten(keys: Iterable[str], children: Iterable[PyTree]) -> _Dict:
        new = cls.__new__(cls)
        for key, child in zip(keys, children, strict=True):
            dict.__setitem__(new, key, child)
        return new

    def flatten(x: _Dict) -> tuple[tuple, tuple]:
        return tuple(x.values()), tuple(x)

    def flatten_with_keys(x: _Dict) -> tuple[list, tuple]:
        return [(jax.tree_util.DictKey(k), v) for k, v in x.items()], tuple(x)

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


class VarList(_List[Variable]):
    """A list of Variables; assigning to a position writes the Variable there.

    Args:
        items: Variables, or data to make Variables of.

    Example:
        >>> import brainopt as bo
        >>> weights = bo.VarList([bo.TrainVar((2,)), bo.TrainVar((3,))])
        >>> weights[0] = [1.0, 2.0]
        >>> weights[0].value.tolist()
        [1.0, 2.0]
    """

    _admit = staticmethod(_as_variable)

    def __init__(self, items: Iterable[Variable | PyTree] = ()):
        super().__init__(items)

    def __setitem__(self, index: Any, value: Any) -> None:
        targets = self[index] if isinstance(index, slice) else [self[index]]
        values = list(value) if isinstance(index, slice) else [value]
        if len(targets) != len(values):
            raise ValueError(
                message(f"{len(values)} values for {len(targets)} Variables.")
            )
        # All are checked before the first is written.
        fitted = [v._fit(new) for v, new in zip(targets, values, strict=True)]
        for variable, new in zip(targets, fitted, strict=True):
            variable.value = new


class VarDict(_Dict[Variable]):
    """A dict of Variables; assigning to a key that is there writes its Variable.

    Args:
        items: a mapping or pairs, of Variables or of data to make Variables of.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self:
            super().__setitem__(key, _as_variable(value))
        elif value is not self[key]:  # as after ``d[key] += 1``
            self[key].value = value


class NodeList(_List[AnyNode]):
    """A list of Nodes, or of models of other frameworks.

    A plain list is walked just as well.
    """

    _admit = staticmethod(_as_node)

    def __setitem__(self, index: Any, value: Any) -> None:
        many = isinstance(index, slice)
        super().__setitem__(
            index, list(map(_as_node, value)) if many else _as_node(value)
        )


class NodeDict(_Dict[AnyNode]):
    """A dict of Nodes, or of models of other frameworks.

    A plain dict is walked just as well.

    Args:
        items: a mapping or pairs.
        check_unique: refuse to replace a Node by another under its key.
    """

    check_unique = False

    def __init__(
        self,
        items: Items[AnyNode] = (),
        check_unique: bool = False,
        **named: AnyNode,
    ):
        self.check_unique = check_unique  # before the entries, which are checked by it
        super().__init__(items, **named)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.check_unique and self.get(key, value) is not value:
            raise PathError(message("Two different objects under one path:", [key]))
        super().__setitem__(key, _as_node(value))
