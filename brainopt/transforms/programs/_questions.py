# SPDX-License-Identifier: Apache-2.0
"""Questions of a program about the values of Variables and the arguments of a call."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import jax

from ... import runtime
from ..._typing import PyTree


def is_donatable(variable: Any) -> bool:
    """Whether a program may take the value: one array of fixed shape."""
    value = runtime.read(variable)
    return variable.batch_axis is None and isinstance(value, jax.Array)


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
