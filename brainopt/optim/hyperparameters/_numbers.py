# SPDX-License-Identifier: Apache-2.0
"""Named numbers that are inputs of a compiled step, never constants in it.

**How it works.** All numbers of one owner are one vector in one Variable, so they cost
a compiled step one input. A change writes entries of the vector; the program stays.

Entries: the numbers in the order of ``names``, then for each of ``decays`` the two
derived numbers 1 - β and log β. Both are rounded once from float64: 1 - float32(0.999)
is wrong in the fifth digit, and bias correction would inherit that. `Hyper` is the view
of the vector that a rule reads.

State dicts and files keep single numbers by name, not the vector, so that people can
read them. `common_float` finds the one number from which all three entries of a decay
rate follow to the bit.

**What must never happen.** A β that is written without its derived numbers: moments and
their bias correction would disagree. A number that a step reads as a Python float: it
would be a constant of the program. Another dtype or device of the vector after a write:
each compiled step would compile again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ... import runtime
from ..._typing import Array, PyTree, Scalar, Values
from ...core import Node, Variable, unwrap
from ...errors import HyperparameterError, message

_DECAY = "[0, 1)"
_USUAL = "[0, inf)"


class SettingVariable(Variable):
    """A Variable that users set and that a step only reads."""

    __slots__ = ()
    _whole = True


class HyperparamVector(SettingVariable):
    """A vector of named numbers.

    Args:
        values: the numbers by name.
        decays: which of them are decay rates in ``[0, 1)``.
        owner: named in errors.
        ranges: intervals by name, as ``"(0, 1]"``; all others lie in ``[0, inf)``.
        derived: 1 - β and log β by name, where β itself is rounded already.

    Raises:
        HyperparameterError: listing every number outside its range.
    """

    __slots__ = ("decays", "names", "owner", "ranges")
    _has_numbers = True

    _fields = (*SettingVariable._fields, *__slots__)

    def __init__(
        self,
        values: Values,
        decays: Iterable[str] = (),
        owner: str = "",
        ranges: Mapping[str, str] | None = None,
        derived: Mapping[str, Sequence[Any]] | None = None,
    ):
        self.names = tuple(values)
        self.decays = tuple(name for name in decays if name in values)
        self.ranges = tuple((ranges or {}).items())
        self.owner = owner
        self.check(values)
        packed = self._pack(values, derived or {})
        super().__init__(packed, name=f"{owner} numbers")

    def _pack(self, values: Values, derived: Mapping[str, Any]) -> Any:
        flat = [values[name] for name in self.names]
        for name in self.decays:
            flat += derived.get(name) or _derived(values[name])
        # A traced number exists in the dtype of JAX alone. All others are packed by
        # numpy in float64, and rounded once, at the end.
        if any(isinstance(x, Tracer) for x in flat):
            return jnp.stack([jnp.asarray(x, float) for x in flat], axis=-1)
        return jnp.array(np.moveaxis(np.asarray(flat, np.float64), 0, -1), float)

    def check(self, values: Values) -> None:
        """Raise `HyperparameterError` listing every concrete number out of range."""
        check(values, self.decays, dict(self.ranges), self.owner)

    def _entries(self, value: Array) -> list[tuple[str, Any]]:
        if isinstance(value, Tracer):
            return [(name, value[..., i]) for i, name in enumerate(self.names)]
        # An ensemble has a vector for each member, and so an array for each name.
        vectors = np.asarray(value)
        *shape, width = vectors.shape
        rows = vectors.reshape(math.prod(shape), width)
        columns = {n: [self._float(row, n) for row in rows] for n in self.names}
        return [(name, np.reshape(found, shape)) for name, found in columns.items()]

    def _float(self, vector: np.ndarray, name: str) -> float:
        i = self.names.index(name)
        if name not in self.decays:
            return float(str(vector[i]))  # shortest, as 0.001
        j = len(self.names) + 2 * self.decays.index(name)
        return common_float(vector[i], vector[j], vector[j + 1])

    def _out_of_range(self, tail: str, value: Any) -> str:
        if isinstance(value, Tracer):
            return ""
        low, high = _ends(self._range(tail))
        found = np.ravel(np.asarray(value))
        # The ends belong to it: a number next to an end may have been rounded to it.
        outside = found[~((found >= low) & (found <= high))]
        return f"{outside[0]:g} is not in {self._range(tail)}" if len(outside) else ""

    def _range(self, name: str) -> str:
        return range_of(name, self.decays, dict(self.ranges))

    def _from_entries(self, old: Any, given: dict[str, Any]) -> Any:
        values = {**dict(self._entries(old)), **given}
        # Packed as a whole: the derived numbers follow from β and are not in files.
        # What is traced has no device to go back to.
        new = self._pack(values, {})
        is_free = isinstance(new, Tracer) or isinstance(old, Tracer)
        new = new.astype(old.dtype)
        return new if is_free or not old.committed else runtime.put(new, old.sharding)

    def number(self, name: str) -> Any:
        """Return one number as a 0-d array."""
        if name not in self.names:
            raise AttributeError(f"This {self.owner} has no number {name!r}.")
        value, place = self.value, self.names.index(name)
        if isinstance(value, Tracer):
            return value[place]
        return _entry(value, place)  # a fifth of the time of an index

    def derived(self, name: str) -> list[Any]:
        """Return 1 - β and log β of a decay rate as 0-d arrays."""
        i = len(self.names) + 2 * self.decays.index(name)
        return [self.value[i], self.value[i + 1]]

    def set_number(self, name: str, new: Scalar, where: Array | bool = True) -> None:
        """Change one number; compiled steps use it from their next call on.

        Args:
            name: which.
            new: the number.
            where: a bool, possibly traced: whether to change it.
        """
        number = scalar(new, name)
        self.check({name: number})
        with runtime.exclusive():
            self._set(name, number, where)

    def _set(self, name: str, number: Any, where: Array | bool) -> None:
        places, entries = [self.names.index(name)], [number]
        if name in self.decays:
            i = len(self.names) + 2 * self.decays.index(name)
            places, entries = [*places, i, i + 1], [*entries, *_derived(number)]
        old = self.value
        # While tracing, the write is part of the program. In eager code it is done by
        # numpy, which dispatches nothing and rounds each entry once.
        if any(isinstance(x, Tracer) for x in (number, old, where)):
            for place, entry in zip(places, entries, strict=True):
                old = old.at[place].set(jnp.where(where, entry, old[place]))
            self.value = old
            return
        vector = np.array(old)
        vector[places] = entries
        self.value = runtime.put(vector, old.sharding) if old.committed else vector


def check(
    values: Values,
    decays: Iterable[str],
    ranges: Mapping[str, str],
    owner: str,
) -> None:
    """Raise `HyperparameterError` listing every concrete number out of its range."""
    problems = []
    for name, value in values.items():
        if isinstance(value, Tracer):
            continue  # its value is known when the program runs, too late to refuse
        range_ = range_of(name, decays, ranges)
        if not _lies_in(float(value), range_):
            problems.append(f"{name}={float(value):g} is not in {range_}")
    if problems:
        raise HyperparameterError(
            message(f"These settings of {owner} are out of range:", problems)
        )


def range_of(name: str, decays: Iterable[str], ranges: Mapping[str, str]) -> str:
    """Return the interval of a number."""
    return ranges.get(name, _DECAY if name in decays else _USUAL)


def scalar(value: PyTree, name: str) -> Any:
    """Return a number as a Python float, a traced one as it is.

    Raises:
        HyperparameterError: ``value`` is not one number.
    """
    value = unwrap(value)
    if isinstance(value, str):
        raise HyperparameterError(message(f"{name} is a number, not {value!r}."))
    if isinstance(value, Node):  # a schedule has a float, which would be that of now
        raise HyperparameterError(
            message(
                f"{name} must be one number, not the {type(value).__name__}.",
                help="a schedule is made first, from a number, and given to the "
                "optimizer: bo.optim.SGD(bo.optim.StepLR(0.1, 30), net).",
            )
        )
    if isinstance(value, Tracer) and value.ndim == 0:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise HyperparameterError(
            message(f"{name} must be one number, not {value!r}.")
        ) from None


def show(value: PyTree) -> str:
    """Return a number in few digits; a traced one as it prints."""
    return str(value) if isinstance(value, Tracer) else f"{float(value):g}"


def _lies_in(number: float, range_: str) -> bool:
    low, high = _ends(range_)
    above = number > low if range_[0] == "(" else number >= low
    below = number < high if range_[-1] == ")" else number <= high
    return above and below


def _ends(range_: str) -> tuple[float, float]:
    low, high = (float(end) for end in range_[1:-1].split(","))
    return low, high


def _derived(beta: Any) -> list[Any]:
    if isinstance(beta, Tracer):
        return derived_of(beta)
    with np.errstate(divide="ignore"):
        return [1 - beta, np.log(beta)]


def derived_of(beta: Any) -> list[Any]:
    """Return 1 - β and log β of a traced decay rate."""
    return [1 - beta, jnp.log(beta)]


def common_float(beta: Any, one_minus: Any, log: Any) -> float:
    """Return the shortest float64 β of which β, 1 - β and log β are the roundings.

    Each rounded number leaves an interval for β, and the original β lies in all
    three. So a file that keeps this one number brings back the other two to the bit.
    Numbers that were set while tracing may have no such β; then it is β itself.
    """
    if not 0 < beta < 1 or beta.dtype == np.float64:
        return float(str(beta))
    # Each entry allows an interval of β: directly, by β = 1 - x, and by β = exp(x). The
    # one of 1 - β is turned round, since x falls where β rises. The fewest digits that
    # hit the intersection are most likely those that the user wrote.
    bounds = [
        _rounded_to(beta),
        1 - _rounded_to(one_minus)[::-1],
        np.exp(_rounded_to(log)),
    ]
    low, high = max(b[0] for b in bounds), min(b[1] for b in bounds)
    for digits in range(1, 18):
        found = float(f"{(low + high) / 2:.{digits}g}")
        derived = _derived(found) if 0 < found < 1 else (0, 0)
        made = np.array([found, *derived]).astype(beta.dtype)
        if (made == np.array([beta, one_minus, log])).all():
            return found
    return float(str(beta))


def _rounded_to(x: Any) -> np.ndarray:
    """Return the ends of the interval of float64 numbers that are rounded to ``x``."""
    # The ends lie half way to the two neighbours of x in its own dtype.
    near = np.array([np.nextafter(x, -np.inf), x, np.nextafter(x, np.inf)], np.float64)
    return np.array([near[0] + near[1], near[1] + near[2]]) / 2


@functools.partial(jax.jit, static_argnums=1)
def _entry(vector: Any, place: int) -> Any:
    return vector[place]
