# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of counts that is exact beyond 2²⁴, where float32 skips whole numbers.

A count comes as an int32 from an optimizer, and as a float from a user who asks for the
rate in the middle of an epoch. Each function here takes both.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..._typing import Array


def is_whole(t: Array) -> bool:
    """Whether ``t`` is a count of an integer dtype."""
    return jnp.issubdtype(t.dtype, jnp.integer)


def divided(t: Array, length: Array, hair: float = 0.0) -> tuple[Any, Any]:
    """Return how often ``length`` fits into ``t``, and the rest, both floats.

    Args:
        t: the count.
        length: above 0; for a whole one and a whole count the result is exact.
        hair: what is added to a quotient that should be whole and may lie just below.
    """
    count = t.astype(length.dtype)
    times = jnp.floor(count / length + hair)
    rest = jnp.maximum(count - times * length, 0)
    if not is_whole(t):
        return times, rest
    # The remainder of integers has no rounding; the float of it has none either, as
    # long as the length itself is below 2²⁴.
    whole = jnp.round(length)
    by = jnp.maximum(whole, 1).astype(t.dtype)
    is_exact = (whole == length) & (length >= 1)
    exact = (t // by).astype(length.dtype), (t % by).astype(length.dtype)
    return jnp.where(is_exact, exact[0], times), jnp.where(is_exact, exact[1], rest)


def reached(t: Array, marks: Array) -> Any:
    """Return which of the marks a count has reached."""
    return _as_counts(t, marks) <= t


def since(t: Array, start: Array) -> Any:
    """Return the count since the first one that is not below ``start``, 0 before it."""
    return jnp.maximum(t - _as_counts(t, start), 0)


def _as_counts(t: Array, marks: Array) -> Any:
    return jnp.ceil(marks).astype(t.dtype) if is_whole(t) else marks.astype(t.dtype)
