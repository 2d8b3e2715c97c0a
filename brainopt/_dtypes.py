# SPDX-License-Identifier: Apache-2.0
"""Conversions between dtypes: which lose no kind, and which would change a number."""

from __future__ import annotations

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._typing import DTypeLike, PyTree

_NUMBER = (bool, int, float, complex)
# In order: a value of one kind may become one of a later kind.
_KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def is_numeric(value: object) -> bool:
    """Whether it is a number of Python, an array, or what else has a dtype."""
    return isinstance(value, _NUMBER) or hasattr(value, "dtype")


def is_weak(value: PyTree) -> bool:
    """Whether ``value`` has no dtype of its own: Python numbers, nested lists of them.

    An array of a weak type counts, an empty list too.
    """
    if isinstance(value, list | tuple):
        return all(map(is_weak, value))
    if isinstance(value, jax.Array):
        return getattr(value, "weak_type", False)  # typed keys have none
    # By the exact type: a float64 of NumPy is a float too, and has a dtype.
    return type(value) in _NUMBER


def keeps_kind(new: DTypeLike, old: DTypeLike) -> bool:
    """Whether ``new`` may become ``old``: int may become float, never float int."""
    # A dtype that is no number, as that of keys, has the last rank and becomes nothing.
    return new == old or _kind(new) <= _kind(old) < len(_KINDS)


def _kind(dtype: DTypeLike) -> int:
    kinds = (rank for rank, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind))
    return next(kinds, len(_KINDS))


def changes_numbers(array: PyTree, dtype: DTypeLike) -> bool:
    """Whether ``dtype`` has not the value of an integer, or makes a number infinite.

    Rounding of floats is no such change. Of a traced array nothing is known.
    """
    # Before the array is read, which waits for the device.
    if array.dtype == dtype or isinstance(array, jax.core.Tracer):
        return False
    old = np.asarray(array)
    with np.errstate(all="ignore"):
        new = old.astype(dtype)
        if jnp.issubdtype(old.dtype, jnp.integer):
            # There and back, and by the sign: 255 as int8 is -1, which comes back as
            # 255 where the old dtype has no sign.
            back = new.astype(old.dtype)
            return bool(((back != old) | ((new < 0) != (old < 0))).any())
        if jnp.issubdtype(old.dtype, jnp.inexact):
            return bool((np.isfinite(old) & ~np.isfinite(new)).any())
    return False
