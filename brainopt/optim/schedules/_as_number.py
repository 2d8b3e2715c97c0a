# SPDX-License-Identifier: Apache-2.0
"""A schedule where a number stands: by its present rate."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...core import Variable


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, object], Any]:
    def method(self: AsNumber, other: object) -> Any:
        # Two schedules have no order, and are equal if they are one.
        if isinstance(other, AsNumber) or not _is_numeric(other):
            return NotImplemented
        return compare(self(), other)

    return method


def _is_numeric(value: object) -> bool:
    if isinstance(value, Variable):
        return not isinstance(value.value, dict | list | tuple)
    if isinstance(value, bool | int | float | complex):
        return True
    kind = getattr(value, "dtype", None)
    return kind is not None and any(
        jnp.issubdtype(kind, numeric) for numeric in (np.number, np.bool_)
    )


class AsNumber:
    """Abstract: compares with numbers by the present rate."""

    __array_priority__ = 100  # NumPy on the left leaves an operation to the schedule

    __lt__ = _compared(operator.lt)
    __le__ = _compared(operator.le)
    __gt__ = _compared(operator.gt)
    __ge__ = _compared(operator.ge)
    __eq__ = _compared(operator.eq)
    __ne__ = _compared(operator.ne)
    # One schedule stays one key while its rate changes.
    __hash__ = object.__hash__

    def __call__(self) -> Any:
        """Return the present rate."""
        raise NotImplementedError


def _of_rate(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: compute(self(), other)


def _reflected(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: compute(other, self())


class Arithmetic(AsNumber):
    """Abstract: computes, and becomes an array, by the rate, as in ``opt.lr -= 1e-4``.

    For a rate that is one number: the product of any other schedule, assigned to
    ``opt.lr``, would end that schedule.
    """

    __add__, __radd__ = _of_rate(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _of_rate(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _of_rate(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _of_rate(operator.truediv), _reflected(operator.truediv)
    __pow__, __rpow__ = _of_rate(operator.pow), _reflected(operator.pow)

    def __jax_array__(self) -> Any:
        return jnp.asarray(self())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self(), dtype=dtype, copy=copy)

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self), digits)  # type: ignore[arg-type]
