# SPDX-License-Identifier: Apache-2.0
"""The operators, methods and protocols of arrays, for Variables and views."""

import copy
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from .._compat import is_key_array, take_for_arrays
from .._dtypes import keeps_kind
from .._typing import PyTree
from ..errors import VariableError, message
from ..runtime import exclusive
from ._units import is_quantity, mantissa_in, with_mantissa


def unwrap(value: PyTree) -> Any:
    """Return the array in a Variable or view; anything else as it is."""
    return value.value if isinstance(value, ArrayLike) else value


def _forward(op: Callable) -> Callable[[Any, Any], jax.Array]:
    def method(self, other: object):
        return op(self.value, unwrap(other))

    return method


def _reflected(op: Callable) -> Callable[[Any, Any], jax.Array]:
    def method(self, other: object):
        return op(unwrap(other), self.value)

    return method


_Self = TypeVar("_Self")


def _in_place(op: Callable) -> Callable[[_Self, Any], _Self]:
    def method(self: Any, other: object):
        with exclusive():
            self.value = op(self.value, unwrap(other))
        return self  # Python assigns it, so the name stays with the Variable

    return method


def _unary(op: Callable) -> Callable[[Any], jax.Array]:
    def method(self):
        return op(self.value)

    return method


class ArrayLike:
    """Abstract: arithmetic, indexing and array methods through ``self.value``.

    Results are plain arrays; the in-place operators (``+=`` …) and item assignment
    write ``self.value``.
    """

    __slots__ = ()
    # NumPy leaves ``array + variable`` to the reflected method here.
    __array_priority__ = 1000
    # ``==`` compares elements, so a Variable is a key by identity.
    __hash__ = object.__hash__

    value: Any
    label: Any

    __add__ = _forward(operator.add)
    __sub__ = _forward(operator.sub)
    __mul__ = _forward(operator.mul)
    __truediv__ = _forward(operator.truediv)
    __floordiv__ = _forward(operator.floordiv)
    __mod__ = _forward(operator.mod)
    __pow__ = _forward(operator.pow)
    __matmul__ = _forward(operator.matmul)
    __and__ = _forward(operator.and_)
    __or__ = _forward(operator.or_)
    __xor__ = _forward(operator.xor)
    __lshift__ = _forward(operator.lshift)
    __rshift__ = _forward(operator.rshift)
    __divmod__ = _forward(divmod)

    __radd__ = _reflected(operator.add)
    __rsub__ = _reflected(operator.sub)
    __rmul__ = _reflected(operator.mul)
    __rtruediv__ = _reflected(operator.truediv)
    __rfloordiv__ = _reflected(operator.floordiv)
    __rmod__ = _reflected(operator.mod)
    __rpow__ = _reflected(operator.pow)
    __rmatmul__ = _reflected(operator.matmul)
    __rand__ = _reflected(operator.and_)
    __ror__ = _reflected(operator.or_)
    __rxor__ = _reflected(operator.xor)
    __rlshift__ = _reflected(operator.lshift)
    __rrshift__ = _reflected(operator.rshift)
    __rdivmod__ = _reflected(divmod)

    __iadd__ = _in_place(operator.add)
    __isub__ = _in_place(operator.sub)
    __imul__ = _in_place(operator.mul)
    __itruediv__ = _in_place(operator.truediv)
    __ifloordiv__ = _in_place(operator.floordiv)
    __imod__ = _in_place(operator.mod)
    __ipow__ = _in_place(operator.pow)
    __imatmul__ = _in_place(operator.matmul)
    __iand__ = _in_place(operator.and_)
    __ior__ = _in_place(operator.or_)
    __ixor__ = _in_place(operator.xor)
    __ilshift__ = _in_place(operator.lshift)
    __irshift__ = _in_place(operator.rshift)

    __lt__ = _forward(operator.lt)
    __le__ = _forward(operator.le)
    __ge__ = _forward(operator.ge)
    __gt__ = _forward(operator.gt)
    __eq__ = _forward(operator.eq)  # type: ignore[assignment]
    __ne__ = _forward(operator.ne)  # type: ignore[assignment]

    __neg__ = _unary(operator.neg)
    __pos__ = _unary(operator.pos)
    __abs__ = _unary(operator.abs)
    __invert__ = _unary(operator.invert)

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
        with exclusive():
            self.value = _with_item(self.value, index, new, self)

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
        # Not forwarded: `copy`, `pickle` and NumPy look for protocols by such names,
        # also on an object that has no value yet.
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        return getattr(self.value, name)

    def fill_(self, number: jax.typing.ArrayLike) -> None:
        """Set every element to ``number``."""
        value, number = self.value, unwrap(number)
        if is_quantity(value):
            number = mantissa_in(number, value, self)
            full = jax.numpy.full_like(value.mantissa, number)
            self.value = with_mantissa(value, full)
        else:
            self.value = jax.numpy.full_like(value, number)


def _with_item(value: Any, index: Any, new: Any, owner: Any) -> Any:
    if isinstance(value, dict | list):
        # A copy: a frame or a caller may hold the value as it was.
        changed = copy.copy(value)
        changed[index] = new
        return changed
    if is_quantity(value):
        new = mantissa_in(new, value, owner)
        return with_mantissa(value, _with_item(value.mantissa, index, new, owner))
    several = isinstance(new, list | tuple)
    dtype = jax.numpy.result_type(jax.numpy.asarray(new) if several else new)
    problem = "" if keeps_kind(dtype, value.dtype) else f"an item of dtype {dtype}"
    try:
        if not problem and not is_key_array(value):
            new = jax.numpy.asarray(new, value.dtype)
    except OverflowError as error:
        problem = f"{new} ({error})"
    if problem:
        raise VariableError(
            message(
                f"{owner.label} of dtype {value.dtype} cannot take {problem}.",
                help="convert the item first, or give the Variable a wider dtype.",
            )
        )
    return value.at[index].set(new)


def _unwrap_index(index):
    return tuple(map(unwrap, index)) if type(index) is tuple else unwrap(index)


take_for_arrays(ArrayLike, unwrap)
