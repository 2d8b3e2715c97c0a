# SPDX-License-Identifier: Apache-2.0
"""Encoding of values and results as arrays in plain containers, to leave a program.

JAX rebuilds a typed random key, and any node that Python registered, by Python code.
There a signal handler may run, and raise: after a donating computation, and before its
results are stored. So such a tree crosses the border of a program as its arrays alone,
which C puts into a list, and is rebuilt once the values are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax

from ..._compat import as_keys, is_key_array, key_data
from ..._typing import Array, PyTree
from ...runtime import baseline_refcount


# A class of its own, so that no dict of the user can pass for an encoded tree.
class _Place(int):
    """The key of an encoded tree: the number of its form."""


class _Form(NamedTuple):
    """The structure of a tree without its arrays.

    Attributes:
        tree: its structure.
        keys: the dtype of each leaf that is an array of typed keys, by position.
    """

    tree: Any
    keys: tuple[tuple[int, Any], ...]


class Encoding:
    """The forms of the trees that one program has encoded.

    An encoded tree is ``{place: leaves}`` and so names its form itself.
    """

    __slots__ = ("_forms",)

    def __init__(self):
        self._forms: list[_Form] = []

    def encode(self, tree: PyTree) -> dict[_Place, list[Any]]:
        """Return the arrays of ``tree``, of typed keys their data."""
        leaves, structure = jax.tree.flatten(tree)
        keys = [(i, x.dtype) for i, x in enumerate(leaves) if is_key_array(x)]
        for i, _ in keys:
            leaves[i] = key_data(leaves[i])
        # Looked up by equality: a second trace of the same tree gives the same form,
        # so that code of both traces can be decoded.
        form = _Form(structure, tuple(keys))
        if form not in self._forms:
            self._forms.append(form)
        return {_Place(self._forms.index(form)): leaves}

    def encode_at(self, positions: tuple[int, ...], values: tuple) -> tuple:
        """Return ``values`` with those at ``positions`` encoded."""
        if not positions:
            return values
        return tuple(
            self.encode(value) if i in positions else value
            for i, value in enumerate(values)
        )

    def encode_places(self, tree: PyTree, places: PyTree) -> dict[_Place, list[Any]]:
        """Return the places of what `encode` makes of ``tree``.

        A sharding of keys divides their data alike: the axes of one key come last.
        """
        ((form, _),) = self.encode(tree).items()
        return {form: jax.tree.leaves(places, is_leaf=lambda x: x is None)}

    def decode(self, value: PyTree) -> Any:
        """Return the tree that was encoded; anything else as it is."""
        if not is_encoded(value):
            return value
        ((place, leaves),) = value.items()
        form, leaves = self._forms[place], list(leaves)
        for i, dtype in form.keys:
            leaves[i] = as_keys(leaves[i], dtype)
        return jax.tree.unflatten(form.tree, leaves)

    def decode_all(self, values: Sequence[PyTree]) -> tuple[Any, ...]:
        """Return each value decoded."""
        return tuple(map(self.decode, values))


def is_encoded(value: PyTree) -> bool:
    """Whether ``value`` is an encoded tree."""
    return type(value) is dict and len(value) == 1 and type(next(iter(value))) is _Place


def is_plain(tree: PyTree) -> bool:
    """Whether JAX rebuilds ``tree`` without running Python."""
    # By the exact type: a subclass, as a named tuple, is rebuilt by its constructor.
    if type(tree) in (tuple, list):
        return all(map(is_plain, tree))
    if type(tree) is dict:
        return all(map(is_plain, tree.values()))
    if tree is None:
        return True
    return jax.tree_util.all_leaves([tree]) and not is_key_array(tree)


def is_data_shared(key: Array) -> bool:
    """Whether the data of a key, held by one slot, is held elsewhere too."""
    return baseline_refcount(_data, key) > _SOLE or _SOLE == 0


# Holds its data as a key does, so that the count is measured where nothing is shared.
class _Holder:
    def __init__(self):
        self._base_array = object()


_data = attrgetter("_base_array")
_SOLE = baseline_refcount(_data, _Holder())
