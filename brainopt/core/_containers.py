# SPDX-License-Identifier: Apache-2.0
"""Lists and dicts whose items keep their identity: assigning writes the Variable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax

from ._variable import Variable


def _as_variable(value: Any) -> Variable:
    return value if isinstance(value, Variable) else Variable(value)


def _require(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} is no {kind.__name__}.")
    return value


class VarList(list):
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

    def __init__(self, items: Iterable[Any] = ()):
        super().__init__(map(_as_variable, items))

    def __setitem__(self, index: Any, value: Any) -> None:
        targets = self[index] if isinstance(index, slice) else [self[index]]
        values = list(value) if isinstance(index, slice) else [value]
        if len(targets) != len(values):
            raise ValueError(f"{len(values)} values for {len(targets)} Variables.")
        fitted = [v._fit(new) for v, new in zip(targets, values, strict=True)]
        for variable, new in zip(targets, fitted, strict=True):
            variable.value = new

    def append(self, item: Any) -> VarList:
        """Add one Variable (or data to make one of); returns self."""
        super().append(_as_variable(item))
        return self

    def extend(self, items: Iterable[Any]) -> VarList:
        """Add Variables (or data to make them of); returns self."""
        super().extend(map(_as_variable, items))
        return self

    def insert(self, index: Any, item: Any) -> None:
        """Insert one Variable (or data to make one of) before ``index``."""
        super().insert(index, _as_variable(item))


class VarDict(dict):
    """A dict of Variables; assigning to a key that is there writes its Variable.

    Args:
        items: a mapping or pairs, of Variables or of data to make Variables of.
    """

    def __init__(self, items: Any = (), **named: Any):
        super().__init__()
        self.update(items, **named)

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            if value is not self[key]:
                self[key].value = value
        else:
            super().__setitem__(key, _as_variable(value))

    def update(self, *others: Any, **named: Any) -> VarDict:
        """Set the entries of mappings or iterables of pairs; returns self."""
        for other in (*others, named):
            items = other.items() if isinstance(other, Mapping) else other
            for key, value in items:
                self[key] = value
        return self


def _register_list(cls: type) -> None:
    def unflatten(_, children):
        new = cls.__new__(cls)
        list.extend(new, children)
        return new

    jax.tree_util.register_pytree_node(cls, lambda x: (tuple(x), None), unflatten)


def _register_dict(cls: type) -> None:
    def unflatten(keys, children):
        new = cls.__new__(cls)
        dict.update(new, zip(keys, children, strict=True))
        return new

    def flatten(x):
        return tuple(x.values()), tuple(x)

    def flatten_with_keys(x):
        return [(jax.tree_util.DictKey(k), v) for k, v in x.items()], tuple(x)

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


_register_list(VarList)
_register_dict(VarDict)
