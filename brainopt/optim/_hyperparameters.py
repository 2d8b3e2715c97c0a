# SPDX-License-Identifier: Apache-2.0
"""Named numbers that are inputs of a compiled step, never constants in it.

All numbers of one owner lie in one vector, so they cost one input. A decay rate β is
kept with 1 - β and log β, both rounded once from float64: 1 - float32(0.999) is wrong
in the fifth digit, and bias correction would inherit that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..core import Node, Variable, unwrap
from ..errors import HyperparameterError, message
from ..runtime import Revision

_DECAY = "[0, 1)"
_USUAL = "[0, inf)"
ANY = "(-inf, inf)"
"""The range of a number that may be negative."""


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

    _fields = (*SettingVariable._fields, *__slots__)

    def __init__(
        self,
        values: Mapping[str, Any],
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

    def _pack(self, values: Mapping[str, Any], derived: Mapping[str, Any]) -> Any:
        flat = [values[name] for name in self.names]
        for name in self.decays:
            flat += derived.get(name) or _derived(values[name])
        if any(isinstance(x, Tracer) for x in flat):
            return jnp.stack([jnp.asarray(x, float) for x in flat])
        return jnp.array(np.asarray(flat, np.float64), float)

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `HyperparameterError` listing every concrete number out of range."""
        check(values, self.decays, dict(self.ranges), self.owner)

    def number(self, name: str) -> Any:
        """Return one number as a 0-d array."""
        return self.value[self.names.index(name)]

    def derived(self, name: str) -> list[Any]:
        """Return 1 - β and log β of a decay rate as 0-d arrays."""
        i = len(self.names) + 2 * self.decays.index(name)
        return [self.value[i], self.value[i + 1]]

    def set_number(self, name: str, new: Any, where: Any = True) -> None:
        """Change one number; compiled steps use it from their next call on.

        Args:
            name: which.
            new: the number.
            where: a bool, possibly traced: whether to change it.
        """
        new = scalar(new, name)
        self.check({name: new})
        places, entries = [self.names.index(name)], [new]
        if name in self.decays:
            i = len(self.names) + 2 * self.decays.index(name)
            places, entries = [*places, i, i + 1], [*entries, *_derived(new)]
        old = self.value
        if any(isinstance(x, Tracer) for x in (new, old, where)):
            for place, entry in zip(places, entries, strict=True):
                old = old.at[place].set(jnp.where(where, entry, old[place]))
            self.value = old
            return
        vector = np.array(old)
        vector[places] = entries
        value = jnp.array(vector)
        self.value = jax.device_put(value, old.sharding) if old.committed else value


class Hyper:
    """The settings as a rule reads them: ``hyper.lr``, ``hyper.beta1``, …

    Numbers are 0-d arrays in the dtype of computation, options are as they are.
    """

    def __init__(
        self,
        numbers: HyperparamVector,
        vector: Any,
        replace: Mapping[str, Any],
        options: Mapping[str, Any],
        exempt: bool = False,
    ):
        self._numbers = numbers
        self._vector = vector
        self._replace = replace
        self._options = options
        self._exempt = exempt
        self._kept: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._replace:
            return self._replace[name]
        if name in self._options:
            return self._options[name]
        if name not in self._numbers.names:
            raise AttributeError(f"{self._numbers.owner} has no {name!r}")
        return self._entry(self._numbers.names.index(name))

    def _entry(self, i: int) -> Any:
        if i not in self._kept:
            self._kept[i] = jax.lax.index_in_dim(self._vector, i, keepdims=False)
        return self._kept[i]

    def _derived(self, name: str, offset: int) -> Any:
        if name in self._replace:
            return _derived_traced(self._replace[name])[offset]
        numbers = self._numbers
        return self._entry(len(numbers.names) + 2 * numbers.decays.index(name) + offset)

    def one_minus(self, name: str) -> Any:
        """Return 1 - β."""
        return self._derived(name, 0)

    def debias(
        self, name: str, step: Any, ahead: int = 0, by_power: bool = False
    ) -> Any:
        """Return 1 - β^(step + ahead), computed once for all that ask for it.

        Args:
            name: of the decay rate β.
            step: the number of this step.
            ahead: steps to look ahead.
            by_power: compute β^step, as the peers do, in the place of
                -expm1(step · log β), which is 20 to 80 times closer to the truth in
                the first hundred steps.

        Source: Kingma & Ba 2015, section 3, for the quantity.
        """
        key = name, id(step), ahead, by_power
        if key not in self._kept:
            # The peers take the power in the widest float there is.
            if by_power and self._vector.dtype == jnp.result_type(float):
                found = 1 - getattr(self, name) ** _later(step, ahead)
            else:
                log = self._derived(name, 1)
                found = -jnp.expm1(_later(step, ahead).astype(log.dtype) * log)
                # Else XLA computes it anew for each element of each parameter.
                found = jax.lax.optimization_barrier(found)
            # The step is kept too, so that its id stays its own.
            self._kept[key] = found, step
        return self._kept[key][0]

    def arrays(self) -> tuple[Any, Any, list[Any]]:
        """Return all arrays it holds, for `with_arrays`."""
        kept = [k[0] if isinstance(k, tuple) else k for k in self._kept.values()]
        return self._vector, self._replace, kept

    def with_arrays(self, arrays: tuple[Any, Any, list[Any]], step: Any) -> Hyper:
        """Return the same view with other arrays, for the step ``step``."""
        vector, replace, kept = arrays
        new = Hyper(self._numbers, vector, replace, self._options, self._exempt)
        for key, value in zip(self._kept, kept, strict=True):
            if isinstance(key, tuple):
                new._kept[key[0], id(step), *key[2:]] = value, step
            else:
                new._kept[key] = value
        return new

    def without_decay(self) -> Hyper:
        """Return the same view for a variable that does not decay.

        Both compute each bias correction once together: alone, XLA would turn the
        division by it into a multiplication, which rounds otherwise.
        """
        new = Hyper(self._numbers, self._vector, self._replace, self._options, True)
        new._kept = self._kept
        return new

    def with_own_step(self) -> Hyper:
        """Return the same view for a variable that counts steps of its own.

        What is computed of its step must not pass for that of the others.
        """
        args = self._numbers, self._vector, self._replace, self._options
        return Hyper(*args, self._exempt)

    def decay(self, x: Any, param: Any, by: Any = None) -> Any:
        """Return ``x + weight_decay * param``; ``x`` where a mask exempts the variable.

        Args:
            x: a gradient or a direction.
            param: the parameter.
            by: what else scales the decay.
        """
        if self._exempt:
            return x
        strength = self.weight_decay if by is None else self.weight_decay * by
        return x + strength * param


class HasHyperparams(Node):
    """A Node whose ``numbers`` are attributes: ``node.beta1 = 0.95``.

    Any other change of its attributes makes compiled functions that use it trace anew.
    """

    numbers: HyperparamVector

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
            return
        if not isinstance(self.__dict__.get(name), Variable):
            self.revision.changed()
        super().__setattr__(name, value)

    @property
    def revision(self) -> Revision:
        """Counts the changes that compiled functions must see."""
        return vars(self).setdefault("_revision", Revision())

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in super()._pytree_attributes() if k != "_revision")

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._pytree_attributes())

    def __repr__(self) -> str:
        shown = [f"{name}={show(self.numbers.number(name))}" for name in self._shown()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _shown(self) -> Iterable[str]:
        return self.numbers.names if "numbers" in self.__dict__ else ()


def check(
    values: Mapping[str, Any],
    decays: Iterable[str],
    ranges: Mapping[str, str],
    owner: str,
) -> None:
    """Raise `HyperparameterError` listing every concrete number out of its range."""
    problems = []
    for name, value in values.items():
        if isinstance(value, Tracer):
            continue
        range_ = ranges.get(name, _DECAY if name in decays else _USUAL)
        if not _lies_in(float(value), range_):
            problems.append(f"{name}={float(value):g} is not in {range_}")
    if problems:
        raise HyperparameterError(
            message(f"These settings of {owner} are out of range:", problems)
        )


def scalar(value: Any, name: str) -> Any:
    """Return a number as a Python float, a traced one as it is.

    Raises:
        HyperparameterError: ``value`` is not one number.
    """
    value = unwrap(value)
    if isinstance(value, str):
        raise HyperparameterError(message(f"{name} is a number, not {value!r}."))
    if isinstance(value, Tracer) and value.ndim == 0:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise HyperparameterError(
            message(f"{name} must be one number, not {value!r}.")
        ) from None


def pair(betas: Any, beta1: Any = None, beta2: Any = None) -> tuple[Any, Any]:
    """Return ``betas`` as two numbers, or the others where it is None.

    Raises:
        HyperparameterError: it is not two of something.
    """
    if betas is None:
        return beta1, beta2
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise HyperparameterError(
            message(f"betas={betas!r}.", help="give two numbers, (beta1, beta2).")
        )
    return betas[0], betas[1]


def _later(step: Any, ahead: int) -> Any:
    """Return ``step + ahead``; the last int32 has no successor."""
    return step if not ahead else jnp.where(step + ahead < step, step, step + ahead)


def show(value: Any) -> str:
    """Return a number in few digits; a traced one as it prints."""
    return str(value) if isinstance(value, Tracer) else f"{float(value):g}"


def _lies_in(number: float, range_: str) -> bool:
    low, high = (float(end) for end in range_[1:-1].split(","))
    above = number > low if range_[0] == "(" else number >= low
    below = number < high if range_[-1] == ")" else number <= high
    return above and below


def _derived(beta: Any) -> list[Any]:
    if isinstance(beta, Tracer):
        return _derived_traced(beta)
    return [1 - beta, math.log(beta) if beta > 0 else -math.inf]


def _derived_traced(beta: Any) -> list[Any]:
    return [1 - beta, jnp.log(beta)]
