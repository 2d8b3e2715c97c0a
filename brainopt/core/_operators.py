# SPDX-License-Identifier: Apache-2.0
"""What makes a Variable usable wherever an array is."""

import copy
import operator
from typing import Any

import jax
import numpy as np

from .._compat import is_key_array
from ..errors import VariableError, message
from ._dtypes import keeps_kind

_BINARY = (
    "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift divmod"
).split()
_COMPARE = ("lt", "le", "eq", "ne", "gt", "ge")
_UNARY = ("neg", "pos", "abs", "invert")


def unwrap(value: Any) -> Any:
    """Return the array in a Variable or view; anything else as it is."""
    return value.value if isinstance(value, ArrayLike) else value


class ArrayLike:
    """Abstract: arithmetic, indexing and array methods through ``self.value``.

    Results are plain arrays; the in-place operators (``+=`` …) and item assignment
    write ``self.value``.
    """

    __slots__ = ()
    __array_priority__ = 1000
    __hash__ = object.__hash__

    value: Any
    label: Any

    def __jax_array__(self):
        return self.value

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype, copy=copy)

    def __dlpack__(self, **options):
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.value.__dlpack_device__()

    def __getitem__(self, index):
        return self.value[_unwrap_index(index)]

    def __setitem__(self, index, new):
        index, new = _unwrap_index(index), unwrap(new)
        self.value = _with_item(self.value, index, new, self.label)

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return iter(self.value)

    def __contains__(self, item):
        return unwrap(item) in self.value

    def __bool__(self):
        return bool(self.value)

    def __int__(self):
        return int(self.value)

    def __float__(self):
        return float(self.value)

    def __complex__(self):
        return complex(self.value)

    def __index__(self):
        return operator.index(self.value)

    def __round__(self, digits=None):
        return round(self.value, digits)

    def __format__(self, spec):
        return format(self.value, spec) if spec else str(self)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        return getattr(self.value, name)

    def fill_(self, number) -> None:
        """Set every element to ``number``."""
        self.value = jax.numpy.full_like(self.value, unwrap(number))


def _with_item(value: Any, index: Any, new: Any, label: str) -> Any:
    if isinstance(value, dict | list):
        changed = copy.copy(value)
        changed[index] = new
        return changed
    dtype = jax.numpy.result_type(new)
    problem = "" if keeps_kind(dtype, value.dtype) else f"an item of dtype {dtype}"
    try:
        if not problem and not is_key_array(value):
            new = jax.numpy.asarray(new, value.dtype)
    except OverflowError as error:
        problem = f"{new} ({error})"
    if problem:
        raise VariableError(
            message(
                f"{label} of dtype {value.dtype} cannot take {problem}.",
                help="convert the item first, or give the Variable a wider dtype.",
            )
        )
    return value.at[index].set(new)


def _unwrap_index(index):
    return tuple(map(unwrap, index)) if type(index) is tuple else unwrap(index)


def _define(name: str, function) -> None:
    function.__name__ = function.__qualname__ = name
    setattr(ArrayLike, name, function)


def _install() -> None:
    for name in _BINARY:
        dunder = name.rstrip("_")
        op = divmod if name == "divmod" else getattr(operator, name)

        def forward(self, other, op=op):
            return op(self.value, unwrap(other))

        def reflected(self, other, op=op):
            return op(unwrap(other), self.value)

        def in_place(self, other, op=op):
            self.value = op(self.value, unwrap(other))
            return self

        _define(f"__{dunder}__", forward)
        _define(f"__r{dunder}__", reflected)
        if name != "divmod":
            _define(f"__i{dunder}__", in_place)
    for name in _COMPARE:
        op = getattr(operator, name)

        def compare(self, other, op=op):
            return op(self.value, unwrap(other))

        _define(f"__{name}__", compare)
    for name in _UNARY:
        op = getattr(operator, name)

        def unary(self, op=op):
            return op(self.value)

        _define(f"__{name}__", unary)


_install()
