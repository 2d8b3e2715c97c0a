# SPDX-License-Identifier: Apache-2.0
"""What a program asks of the values of Variables."""

from __future__ import annotations

from typing import Any

import jax

from ... import runtime


def is_donatable(variable: Any) -> bool:
    """Whether a program may take the value: one array of fixed shape."""
    value = runtime.read(variable)
    return variable.batch_axis is None and isinstance(value, jax.Array)


def is_gone(value: Any) -> bool:
    """Whether a computation has taken the value with it."""
    return any(
        isinstance(leaf, jax.Array) and leaf.is_deleted()
        for leaf in jax.tree.leaves(value)
    )
