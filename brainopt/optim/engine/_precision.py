# SPDX-License-Identifier: Apache-2.0
"""Parameters narrower than float32: how their small changes survive.

A bfloat16 weight of 1.0 cannot take a change of 1e-4; it rounds back to 1.0 for ever.
``plain`` accepts that. ``master`` steps a wide copy. ``kahan`` keeps what rounding cut
off, in the narrow dtype. ``stochastic`` rounds up or down with the right expectation
and keeps nothing.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ..._typing import Array, DTypeLike, PyTree, Slots, StepCount

Precision = Literal["plain", "master", "kahan", "stochastic"]
PRECISIONS = ("plain", "master", "kahan", "stochastic")


@functools.cache
def wide(dtype: DTypeLike) -> Any:
    """Return the dtype to compute in: ``dtype``, but float32 at least."""
    # By size: JAX promotes floats of 8 bits to nothing by itself.
    is_small = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.promote_types(jnp.float32 if is_small else dtype, jnp.float32)


def is_narrow(dtype: DTypeLike) -> bool:
    """Whether ``dtype`` is narrower than the dtype to compute in."""
    return wide(dtype) != dtype


def extra_slots(precision: str, param: Array) -> dict[str, Any]:
    """Return the slots that ``precision`` keeps for ``param``."""
    if not is_narrow(param.dtype):
        return {}
    if precision == "master":
        return {"master": param.astype(wide(param.dtype))}
    return {"residual": jnp.zeros_like(param)} if precision == "kahan" else {}


def widen(param: Array, slots: Slots) -> Any:
    """Return the parameter as its rule sees it."""
    value = param.astype(wide(param.dtype))
    if "master" in slots:
        # Elements that were changed since the last step (a load, a user's write) are
        # taken as they are now; for all others the copy holds more digits.
        known = narrowed(slots["master"], param.dtype) == param
        return jnp.where(known, slots["master"], value)
    if "residual" in slots:
        return value + slots["residual"].astype(value.dtype)
    return value


def narrow(
    new: PyTree, dtype: DTypeLike, slots: Slots, key: Array
) -> tuple[Any, dict[str, Any]]:
    """Return the parameter in its own dtype, and the extra slots after the step.

    Args:
        new: the parameter in the dtype of computation.
        dtype: of the parameter.
        slots: as from `extra_slots`.
        key: a key for stochastic rounding, or None.
    """
    if key is not None and is_narrow(dtype):
        return round_stochastically(key, new, dtype), {}
    # Compensated summation (Kahan 1965) is value = param + residual, exact up to the
    # rounding of the residual, so `widen` adds it before the next change.
    param = narrowed(new, dtype)
    if "master" in slots:
        return param, {"master": new}
    if "residual" in slots:
        return param, {"residual": (new - param.astype(new.dtype)).astype(dtype)}
    return param, {}


def narrowed(x: Array, dtype: DTypeLike) -> Any:
    """Return ``x`` in ``dtype``; in 8 bits the largest number stands for larger ones.

    Some floats of 8 bits have no infinity: a finite number beyond their range would
    become NaN. Those of 16 bits overflow, as everywhere.
    """
    if jnp.finfo(dtype).bits > 8:
        return x.astype(dtype)
    most = float(jnp.finfo(dtype).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -most, most), x).astype(dtype)


def round_stochastically(key: jax.Array, x: Array, dtype: DTypeLike) -> Any:
    """Round to one of the two neighbours in ``dtype``, so that the mean is ``x``."""
    # ``x`` lies between ``near`` and ``other``, which are ``gap`` apart. The choice of
    # ``other`` with probability |error| / gap gives the expectation x:
    # near + (±gap) (|error| / gap) = near + error.
    near = narrowed(x, dtype)
    error = x - near.astype(x.dtype)
    most = float(jnp.finfo(dtype).max)
    away = jnp.where(error > 0, most, -most).astype(dtype)
    other = jnp.nextafter(near, away)
    gap = jnp.abs(other.astype(x.dtype) - near.astype(x.dtype))
    leave = jax.random.uniform(key, x.shape, x.dtype) * gap < jnp.abs(error)
    return jnp.where(leave, other, near)


def key_for(seed: int, step: StepCount, path: str) -> jax.Array:
    """Return the key of one parameter in one step; resumed runs get the same."""
    # Not `hash`: for strings it differs from process to process.
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(path.encode()))
    return jax.random.fold_in(key, step)
