# SPDX-License-Identifier: Apache-2.0
"""Trading time for memory in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, overload

import jax

from .._typing import P, R
from ..core import as_transform
from ._errors import Explained
from ._lift import lift


@overload
def remat(
    fun: Callable[P, R],
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Callable[P, R]: ...


@overload
def remat(
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@as_transform
def remat(
    fun: Any = None,
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """Return ``fun`` recomputing its intermediate values in the backward pass.

    Args:
        fun: any function that reads and writes Variables; left out, ``remat`` is a
            decorator with arguments.
        prevent_cse: as in `jax.checkpoint`; False is right inside `scan`.
        policy: which values to store nevertheless, of `jax.checkpoint_policies`.
        static_argnums: positions of arguments that are not arrays.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar(jnp.array(2.0))
        >>> layer = bo.remat(lambda x: jnp.sin(w * x))
        >>> g = bo.grad(lambda: layer(1.0), w)()
        >>> round(float(g), 4)
        -0.4161
    """
    nums = (static_argnums,) if isinstance(static_argnums, int) else static_argnums

    checkpoint = functools.partial(
        jax.checkpoint, prevent_cse=prevent_cse, policy=policy
    )

    def wrapper(*args, **kwargs):
        # `jax.checkpoint` takes arrays alone; the function closes over everything else.
        fixed = {n % len(args) for n in nums}
        dynamic = [a for i, a in enumerate(args) if i not in fixed]

        def filled(*dynamic, **kwargs):
            rest = iter(dynamic)
            every = [a if i in fixed else next(rest) for i, a in enumerate(args)]
            return fun(*every, **kwargs)

        with Explained(fun, "bo.remat"):
            return lift(checkpoint)(filled)(*dynamic, **kwargs)

    return wrapper
