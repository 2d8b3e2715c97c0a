# SPDX-License-Identifier: Apache-2.0
"""Conversions between dtypes that would change more than the last digits."""

from __future__ import annotations

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._typing import DTypeLike, PyTree


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
