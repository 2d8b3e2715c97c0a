# SPDX-License-Identifier: Apache-2.0
"""Checks inside traced functions whose errors are results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from jax.experimental import checkify as jax_checkify

from .._typing import P, R
from ..core import as_transform
from ._lift import lift

ErrorKinds: TypeAlias = frozenset[type]


@as_transform
def checkify(
    fun: Callable[P, R], errors: ErrorKinds = jax_checkify.user_checks
) -> Callable[P, tuple[jax_checkify.Error, R]]:
    """Return ``fun`` with its checks as a first result, as `jax.experimental.checkify`.

    What ``fun`` writes is kept whether a check fails or not, as its other results are;
    ``error.throw()`` raises the first failed check.

    Args:
        fun: any function that reads and writes Variables, and may call
            `jax.experimental.checkify.check`.
        errors: which errors to look for, such as ``checkify.float_checks``.

    Returns:
        A function that returns ``(error, result of fun)``.

    Example:
        >>> import brainopt as bo
        >>> from jax.experimental import checkify
        >>> rate = bo.Variable(1.0)
        >>> @bo.jit
        ... @bo.checkify
        ... def step(by):
        ...     rate.value -= by
        ...     checkify.check(rate.value >= 0, "negative rate")
        >>> error, _ = step(3.0)
        >>> error.get().split(" (")[0], float(rate)
        ('negative rate', -2.0)
    """

    # The error comes first and belongs to the user; the values go on to be committed,
    # also those of a run with a failed check, which JAX carries to the end.
    def split(result: tuple) -> tuple[tuple, Any]:
        error, (out, values) = result
        return (error, out), values

    return lift(lambda pure: jax_checkify.checkify(pure, errors), split)(fun)
