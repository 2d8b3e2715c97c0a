# SPDX-License-Identifier: Apache-2.0
"""Trading time for memory in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..runtime import Effects
from ._lift import Run, pack, run_to_fixed_point


def remat(
    fun: Callable | None = None,
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
    if fun is None:
        return functools.partial(
            remat, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums
        )
    nums = (static_argnums,) if isinstance(static_argnums, int) else static_argnums

    @functools.wraps(fun)
    def wrapper(*args, **kwargs):
        fixed = {n % len(args) for n in nums}
        dynamic = pack([a for i, a in enumerate(args) if i not in fixed])

        def filled(dynamic):
            rest = iter(dynamic)
            return [a if i in fixed else next(rest) for i, a in enumerate(args)]

        def attempt(effects: Effects):
            seen: list[Effects] = []

            def pure(dynamic, kwargs):
                run = Run(fun, filled(dynamic), (), effects, kwargs)
                seen[:] = [run.effects]
                return run.out, run.results(run.effects.written)

            checkpointed = jax.checkpoint(pure, prevent_cse=prevent_cse, policy=policy)
            out, values = checkpointed(dynamic, pack(kwargs))
            return (out, seen[0].written, values), Effects((), seen[0].inner)

        return run_to_fixed_point(lambda: (Effects(), None), attempt)

    return wrapper
