# SPDX-License-Identifier: Apache-2.0
"""Named numbers that are inputs of a compiled step, never constants in it.

All numbers of one owner lie in one vector, so they cost one input. A decay rate β is
kept with 1 - β and log β, both rounded once from float64: 1 - float32(0.999) is wrong
in the fifth digit, and bias correction would inherit that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Variable
from ..core._operators import unwrap
from ..errors import HyperparameterError, message


class Setting(Variable):
    """A Variable that users set and that a step only reads."""

    __slots__ = ()


class Numbers(Setting):
    """A vector of named numbers.

    Args:
        values: the numbers by name.
        decays: which of them are decay rates in ``[0, 1)``; the others must be finite.
        owner: named in errors.
        signed: names that may be negative.

    Raises:
        HyperparameterError: listing every number outside its range.
    """

    __slots__ = ("decays", "names", "owner", "signed")

    _fields = (*Setting._fields, *__slots__)

    def __init__(
        self,
        values: Mapping[str, Any],
        decays: Iterable[str] = (),
        owner: str = "",
        signed: Iterable[str] = (),
    ):
        self.names = tuple(values)
        self.decays = tuple(decays)
        self.signed = tuple(signed)
        self.owner = owner
        self.check(values)
        super().__init__(self._pack(values), name=f"{owner} numbers")

    def _pack(self, values: Mapping[str, Any]) -> Any:
        flat = [values[name] for name in self.names]
        for name in self.decays:
            flat += _derived(values[name])
        if all(isinstance(x, float | int | np.ndarray | np.generic) for x in flat):
            return jnp.array(np.asarray(flat, np.float64), float)
        return jnp.stack([jnp.asarray(x, float) for x in flat])

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `HyperparameterError` listing every concrete number out of range."""
        problems = []
        for name, value in values.items():
            number = _concrete(value)
            if number is None:
                continue
            if name in self.decays:
                fits, range_ = 0 <= number < 1, "[0, 1)"
            elif name in self.signed:
                fits, range_ = math.isfinite(number), "(-inf, inf)"
            else:
                fits, range_ = 0 <= number < math.inf, "[0, inf)"
            if not fits:
                problems.append(f"{name}={number} is not in {range_}")
        if problems:
            raise HyperparameterError(
                message(f"These settings of {self.owner} are out of range:", problems)
            )

    def number(self, name: str) -> Any:
        """Return one number as a 0-d array."""
        return self.value[self.names.index(name)]

    def set_number(self, name: str, new: Any) -> None:
        """Change one number; compiled steps use it from their next call on."""
        new = scalar(new, name)
        self.check({name: new})
        value = self.value.at[self.names.index(name)].set(new)
        if name in self.decays:
            i = len(self.names) + 2 * self.decays.index(name)
            rest, log = _derived(new)
            value = value.at[i].set(rest).at[i + 1].set(log)
        self.value = value

    def view(self, dtype: Any, **replace: Any) -> View:
        """Return the numbers in ``dtype``, some of them replaced."""
        return View(self, self.value.astype(dtype), replace, dtype)


class View:
    """The numbers as a rule reads them: ``hyper.lr``, ``hyper.beta1``, …"""

    def __init__(self, numbers: Numbers, vector: Any, replace: dict, dtype: Any):
        self._numbers = numbers
        self._vector = vector
        self._replace = {k: jnp.asarray(v, dtype) for k, v in replace.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._replace:
            return self._replace[name]
        try:
            return self._vector[self._numbers.names.index(name)]
        except ValueError:
            raise AttributeError(f"{self._numbers.owner} has no {name!r}") from None

    def _derived(self, name: str, offset: int) -> Any:
        numbers = self._numbers
        i = len(numbers.names) + 2 * numbers.decays.index(name) + offset
        return self._vector[i]

    def rest(self, name: str) -> Any:
        """Return 1 - β."""
        return self._derived(name, 0)

    def debias(self, name: str, step: Any) -> Any:
        """Return 1 - β^step, as -expm1(step · log β).

        Source: Kingma & Ba 2015, section 3, for the quantity.
        """
        return -jnp.expm1(step.astype(self._vector.dtype) * self._derived(name, 1))


class Numbered:
    """Mixin of Nodes whose ``numbers`` are attributes: ``node.beta1 = 0.95``."""

    numbers: Numbers

    def __getattr__(self, name: str) -> Any:
        numbers = self.__dict__.get("numbers")
        if numbers is not None and name in numbers.names:
            return numbers.number(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        numbers = self.__dict__.get("numbers")
        if numbers is not None and name in numbers.names:
            numbers.set_number(name, value)
        else:
            super().__setattr__(name, value)


def scalar(value: Any, name: str) -> Any:
    """Return a number as a Python float, a traced one as it is.

    Raises:
        HyperparameterError: ``value`` is not one number.
    """
    value = unwrap(value)
    if isinstance(value, jax.core.Tracer) and value.ndim == 0:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise HyperparameterError(
            message(f"{name} must be one number, not {value!r}.")
        ) from None


def _concrete(value: Any) -> float | None:
    return None if isinstance(value, jax.core.Tracer) else float(value)


def _derived(beta: Any) -> list[Any]:
    if isinstance(beta, jax.core.Tracer):
        return [1 - beta, jnp.log(beta)]
    return [1 - beta, math.log(beta) if beta > 0 else -math.inf]
