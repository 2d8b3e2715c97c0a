# SPDX-License-Identifier: Apache-2.0
"""The settings as a rule reads them: ``hyper.lr``, ``hyper.beta1``, …"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, Values
from ._numbers import HyperparamVector, derived_of


@dataclasses.dataclass(frozen=True)
class HyperSource:
    """The settings that are no arrays, as a `Hyper` reads them.

    Args:
        numbers: the names of the numbers, and their places in the vector.
        options: the options by name.
        off: the numbers that are 0 and keep no slot.
        multiplier: returns the learning rate divided by the base of its schedule.
    """

    numbers: HyperparamVector
    options: Mapping[str, Any]
    off: frozenset[str]
    multiplier: Callable[[], Any]


class Hyper:
    """The settings of one parameter in one step.

    Numbers are 0-d arrays in the dtype of computation, options are as they are. What
    is computed of a number is kept in ``_kept``, a table that views of one group
    share. Its keys name the number and, where the step enters, the identity of the
    step's array; the array itself is kept beside, so that its id stays its own.

    Args:
        source: the names and options.
        vector: the numbers in the dtype of computation.
        replace: the numbers that a schedule gives, and ``lr``.
        is_exempt: whether a mask exempts the variable from weight decay.
    """

    def __init__(
        self,
        source: HyperSource,
        vector: Any,
        replace: Values,
        is_exempt: bool = False,
    ):
        self._source = source
        self._vector = vector
        self._replace = replace
        self._is_exempt = is_exempt
        self._shape: tuple[int, ...] | None = None
        self._kept: dict[Any, Any] = {}
        self._true: tuple[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._replace:
            return self._replace[name]
        if name in self._source.options:
            return self._source.options[name]
        numbers = self._source.numbers
        if name not in numbers.names:
            raise AttributeError(f"{numbers.owner} has no {name!r}")
        return self._entry(numbers.names.index(name))

    def _entry(self, i: int) -> Any:
        # One slice for each number, not one for each parameter that uses it: a net of
        # a thousand variables would have thousands of equal operations to compile.
        if i not in self._kept:
            self._kept[i] = jax.lax.index_in_dim(self._vector, i, keepdims=False)
        return self._kept[i]

    def _derived(self, name: str, offset: int) -> Any:
        # β from a schedule is an array: its derived numbers are computed in the step.
        if name in self._replace:
            return derived_of(self._replace[name])[offset]
        numbers = self._source.numbers
        return self._entry(len(numbers.names) + 2 * numbers.decays.index(name) + offset)

    @property
    def eta(self) -> Any:
        """The schedule multiplier η, the learning rate divided by its base."""
        if "eta" not in self._kept:
            self._kept["eta"] = self._source.multiplier()
        return self._kept["eta"]

    def is_off(self, name: str) -> bool:
        """Return whether a number is 0 for good, and has no slot."""
        return name in self._source.off

    def one_minus(self, name: str) -> Any:
        """Return 1 - β."""
        return self._derived(name, 0)

    def debias(
        self, name: str, step: Array, ahead: int = 0, by_power: bool = False
    ) -> Any:
        """Return 1 - β^(step + ahead), computed once and shared.

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
                # 1 - β^t = -expm1(t log β) has no cancellation for β near 1.
                log = self._derived(name, 1)
                found = -jnp.expm1(_later(step, ahead).astype(log.dtype) * log)
                # Else XLA computes it anew for each element of each parameter.
                found = jax.lax.optimization_barrier(found)
            self._kept[key] = found, step
        found = self._kept[key][0]
        if self._shape is None:
            return found
        return jax.lax.optimization_barrier(jnp.broadcast_to(found, self._shape))

    def decay(self, x: Array, param: Array, by: Array | float | None = None) -> Any:
        """Return ``x + weight_decay * param``; ``x`` where a mask exempts the variable.

        Args:
            x: a gradient or a direction.
            param: the parameter.
            by: what else scales the decay.
        """
        # A Python branch: masks choose by path and shape, which are fixed in a trace.
        if self._is_exempt:
            return x
        strength = self.weight_decay if by is None else self.weight_decay * by
        if self._true is None:
            return x + strength * param
        (true,) = self._true
        if true is None:  # not known, and not needed as long as nothing decays
            return x + jnp.where(strength == 0, 0, jnp.nan).astype(x.dtype)
        return x + strength * true.astype(x.dtype)

    def arrays(self) -> tuple[Any, Any, list[Any]]:
        """Return all arrays it holds, for `with_arrays`."""
        kept = [k[0] if isinstance(k, tuple) else k for k in self._kept.values()]
        return self._vector, self._replace, kept

    def with_arrays(self, arrays: tuple[Any, Any, list[Any]], step: Array) -> Hyper:
        """Return the same view with other arrays, for the step ``step``."""
        vector, replace, kept = arrays
        new = Hyper(self._source, vector, replace, self._is_exempt)
        # Inside a program the step is another array, so the keys that hold its identity
        # are made anew. Dicts keep their order, which pairs keys with arrays.
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
        new = Hyper(self._source, self._vector, self._replace, True)
        new._kept = self._kept
        return new

    def for_pack(self, shape: tuple[int, ...]) -> Hyper:
        """Return the same view for a rule that moves many variables as one array.

        A bias correction that only one array is divided by becomes a factor in XLA,
        see `without_decay`; one that is spread over the array stays a divisor.
        """
        new = Hyper(self._source, self._vector, self._replace, self._is_exempt)
        new._kept, new._shape = self._kept, shape
        return new

    def with_own_step(self) -> Hyper:
        """Return the same view for a variable that counts steps of its own.

        Values derived from its step must not be shared with the others.
        """
        new = Hyper(self._source, self._vector, self._replace, self._is_exempt)
        new._true = self._true
        return new

    def around(self, param: Array | None) -> Hyper:
        """Return the same view for a rule that runs at a parameter of 0.

        Its decay is that of ``param``; None where it is not known.
        """
        new = Hyper(self._source, self._vector, self._replace, self._is_exempt)
        new._kept, new._true = self._kept, (param,)
        return new


def _later(step: Array, ahead: int) -> Any:
    """Return ``step + ahead``; the last int32 has no successor."""
    return step if not ahead else jnp.where(step + ahead < step, step, step + ahead)
