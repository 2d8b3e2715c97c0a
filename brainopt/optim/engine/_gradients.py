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


_LARGE = 1 << 16


def _factors(grads: PyTree) -> tuple[Any, Any]:
    """Return two factors of a norm, which overflow nowhere; their product may.

    Squares overflow from 1.8e19 on in float32, where the norm is far from it. So they
    are summed a second time, made smaller: by a power of two that leaves room for 2³²
    of the largest number. For small arrays both sums are one operation, since XLA pays
    for each; large ones are read again only where it is needed.
    """
    leaves = [_wide(g) for g in jax.tree.leaves(grads)]
    leaves = [g for g in leaves if g.size]
    if not leaves:
        return jnp.zeros(()), jnp.ones(())
    dtype = _norm_dtype(leaves)
    by = jnp.asarray(2.0 ** -(int(jnp.finfo(dtype).maxexp) // 2 + 16), dtype)
    large = tuple(g for g in leaves if g.size > _LARGE)
    pairs = [_square_sums(g, by).astype(dtype) for g in leaves if g.size <= _LARGE]
    usual, smaller = sum(pairs, jnp.zeros(2, dtype))
    if large:
        usual += _square_sum(large, jnp.ones_like(by))
        # Functions of the module, not closures: JAX compiles these once.
        smaller += jax.lax.cond(jnp.isinf(usual), _square_sum, _nothing, large, by)
    beyond = jnp.isinf(usual)
    squares = jnp.where(beyond, smaller, usual)
    return safe_sqrt(squares), jnp.where(beyond, 1 / by, jnp.ones_like(by))


def _square_sums(g: Array, by: Array) -> Any:
    """Return the sums of squares of the elements, and of these made smaller."""
    pair = jnp.stack([jnp.ones_like(by), by]).astype(_real(g))
    return _squares(g.reshape(1, -1) * pair[:, None]).sum(axis=1)


def _square_sum(leaves: Sequence[Array], by: Array) -> Any:
    """Return the sum of squares of the elements, made smaller."""
    return sum(_squares(g * by.astype(_real(g))).sum().astype(by.dtype) for g in leaves)


def _nothing(_: Sequence[Array], by: Array) -> Any:
    return jnp.zeros_like(by)


def _squares(g: Array) -> Any:
    return (g * g.conj()).real if jnp.iscomplexobj(g) else g * g


def _real(g: Array) -> Any:
    return jnp.finfo(g.dtype).dtype


def _norm_dtype(leaves: Sequence[Array]) -> Any:
    return jnp.result_type(*map(_real, leaves))


def _wide(g: Array) -> Any:
    g = jnp.asarray(g)
    return g.astype(wide(g.dtype))


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
