# SPDX-License-Identifier: Apache-2.0
"""Recorded values as a second result of a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._typing import P, R
from ..core import as_transform
from ._lift import lift
from ._records import collected, parted


@as_transform
def with_records(fun: Callable[P, R]) -> Callable[P, tuple[R, dict[str, Any]]]:
    """Return ``fun`` with what it records as a second result.

    Inside another `with_records` the inner one has the values. A `jit` around it
    compiles them in as results; code that is compiled without it records nothing, and
    costs nothing.

    Args:
        fun: any function that reads and writes Variables, and calls `record`.

    Returns:
        A function that returns ``(result of fun, {name: value})``. In a value each
        `for_loop`, `scan` and `vmap` between here and `record` has a leading axis.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> def loss(x):
        ...     rate = w * x
        ...     bo.record(rate=rate)
        ...     return (rate**2).sum()
        >>> @bo.jit
        ... @bo.with_records
        ... def step(x):
        ...     return bo.grad(loss, w)(x)
        >>> gradient, kept = step(3.0)
        >>> gradient.tolist(), kept["rate"].tolist()
        ([18.0, 36.0], [3.0, 6.0])
    """

    def wrapper(*args, **kwargs):
        # Closed over and not passed on, so that Nodes among them stay the same Nodes.
        def both():
            return parted(collected(fun, *args, **kwargs))

        return lift(lambda pure: pure)(both)()

    return wrapper
