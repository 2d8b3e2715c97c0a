# SPDX-License-Identifier: Apache-2.0
"""The types that the signatures of every wing are written in.

They name what an argument *means*; what fits it is checked where it is used, since
no type says "a pytree of floating arrays". Nothing here costs anything at run time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import (
    Any,
    ParamSpec,
    Protocol,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

import jax
import jax.typing
import numpy as np

from ._select import Where as Where

T = TypeVar("T")
"""A type that an argument and a result share."""

P = ParamSpec("P")
"""The parameters of a function that is transformed."""

R = TypeVar("R", covariant=True)
"""The result of a function that is transformed."""

Aux = TypeVar("Aux")
"""The result of such a function beside its value."""

# `Any` to a checker, since no type says "nested containers of arrays"; the name tells a
# reader what is meant, and where one day a better type belongs.
PyTree: TypeAlias = Any
"""Arrays in any nesting of containers that `jax.tree` knows."""

Model: TypeAlias = Any
"""A Node, a collector, a Variable, a model of a host, or lists and dicts of these."""


@runtime_checkable
class HasArray(Protocol):
    """An object that JAX takes as an array; every Variable is one."""

    def __jax_array__(self) -> jax.Array:
        """Return the array it stands for."""
        ...


ArrayLike: TypeAlias = jax.typing.ArrayLike | HasArray
"""An array, a number, or a Variable that holds one."""

Array: TypeAlias = jax.Array

Values: TypeAlias = Mapping[str, PyTree]
"""Values by path or name."""

Arrays: TypeAlias = dict[str, jax.Array]
"""Arrays by path or name."""

Slots: TypeAlias = Arrays
"""The arrays that an optimizer keeps for one parameter, by name."""

Foreign: TypeAlias = Any
"""An object of another framework, such as one of its states."""

Argnums: TypeAlias = int | Sequence[int] | None
"""Positions of arguments; negative ones count from the end."""

Index: TypeAlias = (
    SupportsIndex
    | slice
    | EllipsisType
    | jax.typing.ArrayLike
    | Sequence[int]
    | tuple[Any, ...]
    | None
)
"""An index, between the brackets of an array."""

DTypeLike: TypeAlias = jax.typing.DTypeLike

Shape: TypeAlias = tuple[int, ...]

Scalar: TypeAlias = float | int | np.number | jax.Array | HasArray
"""One number."""

StepCount: TypeAlias = int | jax.Array
"""The number of steps or epochs so far."""

Schedule: TypeAlias = Callable[..., Any]
"""A callable of the counted step that returns a `Scalar`; `brainopt.optim.Schedule`."""

ScalarOrSchedule: TypeAlias = Scalar | Schedule

Gradients: TypeAlias = (
    Mapping[str, Any] | Sequence[Any] | jax.Array | np.ndarray | HasArray | None
)
"""``{path: gradient}``; a list or one array where a list or one Variable is trained."""

StateDict: TypeAlias = Mapping[str, Any]
"""``{path: value}`` of every Variable below a root."""

Device: TypeAlias = Any
"""A `jax.Device`, which is a variable to type checkers."""

Place: TypeAlias = (
    str
    | jax.sharding.Sharding
    | jax.sharding.Mesh
    | jax.sharding.PartitionSpec
    | Device
)
"""A device by name (``"cuda:1"``) or itself, a sharding, a mesh, or a spec of it."""

PlaceRules: TypeAlias = Mapping[Where, Place]
"""Places by choices of names; the first that fits a path holds."""

FilePath: TypeAlias = str | os.PathLike[str]

Metrics: TypeAlias = Mapping[str, Scalar]
"""Numbers by name, as one line of a log."""
