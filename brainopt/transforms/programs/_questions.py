# SPDX-License-Identifier: Apache-2.0
"""Questions of a program about the values of Variables and the arguments of a call."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime
from ..._compat import is_key_array
from ..._typing import PyTree
from ...runtime import Cell
from ._encoding import is_data_shared


def is_donatable(variable: Any) -> bool:
    """Whether a program may take the value: one array of fixed shape."""
    value = runtime.read(variable)
    return variable.batch_axis is None and isinstance(value, jax.Array)


def key_positions(variables: Sequence[Cell]) -> tuple[int, ...]:
    """Return the positions of the Variables that hold typed random keys."""
    values = enumerate(map(runtime.read, variables))
    return tuple(i for i, value in values if is_key_array(value))


def call_key(inputs: PyTree) -> tuple[Any, ...]:
    """Return a key that is equal for inputs for which `jax.jit` runs the same code."""
    leaves, tree = jax.tree.flatten(inputs)
    try:
        return (tree, *map(_aval, leaves))
    except AttributeError:  # Python numbers
        return (tree, *map(jax.typeof, leaves))


def is_gone(value: object) -> bool:
    """Whether a computation has taken the value with it."""
    return any(
        isinstance(leaf, jax.Array) and leaf.is_deleted()
        for leaf in jax.tree.leaves(value)
    )


_aval = attrgetter("aval")


def unshared(storage: Any, variables: Sequence[Cell], keys: Sequence[int]) -> tuple:
    """Return values that may be donated: copies of those that somebody else holds.

    Args:
        storage: the functions that reach the values.
        variables: whose values are wanted.
        keys: the positions of typed keys.
    """
    get = storage.get
    if storage.none_shared(variables):
        values = tuple(map(get, variables))
    else:
        shared = zip(variables, storage.shared(variables), strict=True)
        values = tuple(jnp.copy(get(v)) if held else get(v) for v, held in shared)
    # A key holds its data in an array of its own, which is what is donated.
    held = {i for i in keys if is_data_shared(values[i])}
    if held:
        values = tuple(jnp.copy(x) if i in held else x for i, x in enumerate(values))
    return values
