# SPDX-License-Identifier: Apache-2.0
"""Gradients whose squares are finite.

The square of a float32 overflows from 1.8e19 on. Of an infinite second moment the
weight would stand still for ever, and no gradient would be at fault: each is finite.

**How it works.** Two kinds of rules square a gradient. One keeps its squares: a float32
has no room for larger ones, so the gradient itself is bounded, by `bounded`. Such rules
divide by the root of what they keep, so the size of a gradient beside itself does not
matter. The other kind squares for a norm alone, and divides a direction by it: there
`shrunk` makes all numbers smaller by one power of two, which changes no digit.

**What must never happen.** A gradient within the bound that changes by a bit. One that
is not finite and becomes so: the guard and the user must see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, PyTree, Values
from ._rows import Rows


def bounded(grad: Array, slots: Values, squares: int) -> Any:
    """Return a gradient with moduli that a rule can square.

    Args:
        grad: a gradient in the dtype of computation.
        slots: those of the rule, which may be narrower.
        squares: how many squares must have a finite sum; 0 for a rule without any.
    """
    if grad is None or not squares:
        return grad
    if isinstance(grad, Rows):
        return Rows(grad.indices, bounded(grad.values, slots, squares))
    near, zero = bounded_apart(grad, slots, squares)
    return near - zero


def bounded_apart(grad: Array, slots: Values, squares: int) -> tuple[Any, Any]:
    """Return a bounded gradient, and what is to be subtracted from it or from a sum.

    That is 0, and NaN where a real gradient is not finite: the bound hides infinities.
    Each operation here is compiled once for each parameter.
    """
    most = largest((grad.dtype, *(slot.dtype for slot in slots.values())), squares)
    if not jnp.iscomplexobj(grad):
        most = grad.dtype.type(most)
        return jax.lax.clamp(-most, grad, most), grad - grad
    # Halves, since the modulus of finite parts may be infinite.
    size = jnp.abs(grad / 2)
    beyond = jnp.isfinite(grad) & (size > most / 2)
    return jnp.where(beyond, grad / 2 / jnp.where(beyond, size, 1) * most, grad), 0


def largest(dtypes: Iterable[Any], squares: int) -> float:
    """Return the modulus up to which ``squares`` squares have a finite sum."""
    kinds = [jnp.finfo(d) for d in dtypes if jnp.issubdtype(d, jnp.inexact)]
    # A float of 16 bits that holds a mean, not squares (see `AdamW.mu_dtype`), bounds
    # the gradient itself.
    wide = min(kind.maxexp for kind in kinds if kind.maxexp >= _FLOAT32)
    return min(
        2.0 ** ((wide - math.ceil(math.log2(squares))) // 2),
        *(float(kind.max) for kind in kinds),
    )


_FLOAT32 = int(jnp.finfo(jnp.float32).maxexp)


def shrunk(tree: PyTree) -> tuple[Any, Any]:
    """Return arrays whose squares have a finite sum, and the factor that made them so.

    Args:
        tree: real or complex arrays in their dtype of computation.

    Returns:
        the arrays times the factor, and the factor: 1, or a power of two where an
        element is large.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
    if not leaves:
        return tree, jnp.ones(())
    dtype = jnp.result_type(*(jnp.finfo(leaf.dtype).dtype for leaf in leaves))
    bits = int(jnp.finfo(dtype).maxexp)
    # From there on 2³² of them overflow; the factor brings the largest number to it.
    limit, factor = 2.0 ** (bits // 2 - 16), 2.0 ** -(bits // 2 + 16)
    is_large = jnp.stack([_peak(leaf).astype(dtype) for leaf in leaves]).max() > limit
    by = jnp.where(is_large, factor, 1).astype(dtype)
    by = jax.lax.stop_gradient(by)
    return jax.tree.map(lambda x: times(x, by), tree), by


def times(x: Array, by: Array) -> Any:
    """Return an array times a real number, part by part."""
    by = by.astype(jnp.finfo(x.dtype).dtype)
    return jax.lax.complex(x.real * by, x.imag * by) if jnp.iscomplexobj(x) else x * by


def _peak(x: Array) -> Any:
    """Return the largest absolute part of an array."""
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.abs(x.real).max(), jnp.abs(x.imag).max())
    return jnp.abs(x).max()
