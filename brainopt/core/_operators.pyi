# SPDX-License-Identifier: Apache-2.0
"""How type checkers see what makes a Variable usable wherever an array is.

To them it is a `jax.Array`: JAX's functions take it, and arithmetic, indexing and the
methods of arrays give arrays. What differs stands here. At run time it is none, and
forwards each of these to its value.

``__get__`` and ``__set__`` let an array be assigned to an attribute that holds a
Variable, as `Node.__setattr__` does; checkers ask for them where the class declares
the attribute (``V: bo.Variable``).
"""

from collections.abc import Iterator
from typing import Any, Self

import jax

from .._typing import PyTree

def unwrap(value: PyTree) -> Any: ...

class ArrayLike(jax.Array):
    def __init__(self) -> None: ...
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...
    def __set__(self, instance: object, value: object) -> None: ...
    @property
    def value(self) -> jax.Array: ...
    @value.setter
    def value(self, new: object) -> None: ...
    @property
    def label(self) -> str: ...
    def fill_(self, number: object) -> None: ...
    def __jax_array__(self) -> jax.Array: ...
    def __hash__(self) -> int: ...
    def __iter__(self) -> Iterator[jax.Array]: ...
    def __contains__(self, item: object) -> bool: ...
    def __setitem__(self, index: Any, new: object) -> None: ...

    # In place, and so what they return is no plain array as `__add__` returns.
    def __iadd__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __isub__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __imul__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __itruediv__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __ifloordiv__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __imod__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __ipow__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __imatmul__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __iand__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __ior__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __ixor__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __ilshift__(self, other: object) -> Self: ...  # type: ignore[misc]
    def __irshift__(self, other: object) -> Self: ...  # type: ignore[misc]
