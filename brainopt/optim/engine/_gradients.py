# SPDX-License-Identifier: Apache-2.0
"""Pure functions on gradients: norms, clipping, centralisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, PyTree, Scalar
from ._precision import wide
from ._tree import safe_sqrt


def global_norm(grads: PyTree) -> Any:
    """Return the Euclidean norm of all gradients together, a 0-d array.

    Args:
        grads: a pytree of arrays; None is nothing. Sums in float32 or wider.
    """
    norm, by = _factors(grads)
    return norm * by


def clip_by_global_norm(grads: PyTree, max_norm: Scalar) -> Any:
    """Scale all gradients together so that their `global_norm` is ``max_norm`` at most.

    Example:
        >>> import brainopt as bo
        >>> g = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
        >>> bo.optim.clip_by_global_norm(g, 1.0)["b"].round(6).tolist()
        [0.8...]

    Source: Pascanu et al. 2013, On the difficulty of training recurrent neural
    networks, algorithm 1.
    """
    return _scale_to(grads, _factors(grads), max_norm)


def clip_by_norm(grads: PyTree, max_norm: Scalar) -> Any:
    """Scale each gradient by itself so that its norm is ``max_norm`` at most."""
    return jax.tree.map(lambda g: _scale_to(g, _factors(g), max_norm), grads)


def clip_by_value(grads: PyTree, limit: jax.typing.ArrayLike) -> Any:
    """Clip each element to [-limit, limit]; a complex one by its modulus."""

    def clip(g: Array):
        if jnp.iscomplexobj(g):
            # The phase stays, unlike with real and imaginary part clipped apart.
            size = jnp.abs(g)
            return jnp.where(size > limit, g / jnp.maximum(size, limit) * limit, g)
        bound = jnp.asarray(limit, g.dtype)
        return jnp.clip(g, -bound, bound)

    return jax.tree.map(clip, grads)


def centralize(grads: PyTree) -> Any:
    """Subtract from each gradient its mean over all axes but the last.

    The last axis counts the outputs, as in ``x @ W``; gradients with fewer than two
    axes stay as they are.

    Source: Yong et al. 2020, Gradient Centralization, equation 1.
    """

    def center(g: Array):
        if g.ndim < 2:
            return g
        return g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True)

    return jax.tree.map(center, grads)


def all_finite(grads: PyTree) -> Any:
    """Return whether no gradient has a NaN or an infinity, a 0-d bool array."""
    leaves = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
    return jnp.stack(leaves).all() if leaves else jnp.ones((), bool)


_ZERO = 0.0


def _factors(grads: PyTree) -> tuple[Any, Any]:
    """Return two factors of a norm, which overflow nowhere; their product may."""
    leaves = [jnp.asarray(g) for g in jax.tree.leaves(grads)]
    if not leaves:
        return jnp.zeros(()), jnp.ones(())
    squares = sum((_square_sum(g) for g in leaves), _ZERO)
    # Without an element there is no largest one to scale by.
    if not any(g.size for g in leaves):
        return safe_sqrt(squares), jnp.ones_like(squares)
    # Squares overflow from 1.8e19 on in float32, where the norm is far from it.
    # Functions of the module, not closures: JAX compiles these once.
    return jax.lax.cond(
        jnp.isinf(squares), _scaled_norm, _usual_norm, tuple(leaves), squares
    )


def _usual_norm(_: tuple[Array, ...], squares: Array) -> tuple[Any, Any]:
    return safe_sqrt(squares), jnp.ones_like(squares)


def _scaled_norm(leaves: tuple[Array, ...], squares: Array) -> tuple[Any, Any]:
    """Return the norm divided by the largest modulus, and that modulus."""
    # ‖g‖ = m ‖g / m‖ for any m > 0. As the result does not depend on m, neither does
    # its derivative: m is held fixed in it.
    moduli = [jnp.abs(_wide(g)) for g in leaves if g.size]
    most = jnp.stack([jnp.max(m).astype(float) for m in moduli]).max()
    most = jax.lax.stop_gradient(jnp.asarray(most, _norm_dtype(leaves)))
    # An element that is infinite itself gives an infinite norm, not inf / inf.
    by = jnp.where(jnp.isfinite(most), most, 1)
    parts = sum((_square_sum(m / by.astype(m.dtype)) for m in moduli), _ZERO)
    return safe_sqrt(parts).astype(squares.dtype), by.astype(squares.dtype)


def _norm_dtype(leaves: Sequence[Array]) -> Any:
    return jnp.result_type(*(jnp.finfo(_wide(g).dtype).dtype for g in leaves))


def _wide(g: Array) -> Any:
    g = jnp.asarray(g)
    return g.astype(wide(g.dtype))


def _square_sum(g: Array) -> Any:
    g = _wide(g)
    return jnp.sum((g * g.conj()).real if jnp.iscomplexobj(g) else g * g)


def _scale_to(tree: PyTree, factors: tuple[Any, Any], max_norm: Scalar) -> Any:
    norm, largest = factors
    max_norm = jnp.asarray(max_norm, norm.dtype)
    # A norm of finite elements may be infinite itself. Then both it and the gradients
    # are made smaller first, by a power of two, which changes no digit.
    first = jnp.where(jnp.isinf(norm * largest), 2.0**-64, 1.0).astype(norm.dtype)
    norm = norm * (largest * first)
    fits = (norm < max_norm) & (first == 1)
    # Divided by 0, the branch that is not taken would have no derivative.
    by = jnp.where(fits, jnp.ones_like(norm), norm)

    # optax's order, a division before the product; gradients within the limit stay as
    # they are to the bit. In float16 the divisor may be infinite: it is wide.
    def scale(g: Array):
        x = _wide(g)
        parts = (part.astype(x.dtype) for part in (first, by, max_norm))
        before, divisor, limit = parts
        return jnp.where(fits, g, (x * before / divisor * limit).astype(g.dtype))

    return jax.tree.map(scale, tree)
