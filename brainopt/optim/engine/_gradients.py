# SPDX-License-Identifier: Apache-2.0
"""Pure functions on gradients: norms, clipping, centralisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def global_norm(grads: Any) -> Any:
    """Return the Euclidean norm of all gradients together, a 0-d array.

    Args:
        grads: a pytree of arrays; None is nothing. Sums in float32 or wider.
    """
    return jnp.sqrt(sum((_square_sum(g) for g in jax.tree.leaves(grads)), _ZERO))


def clip_by_global_norm(grads: Any, max_norm: Any) -> Any:
    """Scale all gradients together so that their `global_norm` is ``max_norm`` at most.

    Example:
        >>> import brainopt as bo
        >>> g = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
        >>> bo.optim.clip_by_global_norm(g, 1.0)["b"].round(6).tolist()
        [0.8...]

    Source: Pascanu et al. 2013, On the difficulty of training recurrent neural
    networks, algorithm 1.
    """
    return _scale_to(grads, global_norm(grads), max_norm)


def clip_by_norm(grads: Any, max_norm: Any) -> Any:
    """Scale each gradient by itself so that its norm is ``max_norm`` at most."""
    return jax.tree.map(lambda g: _scale_to(g, global_norm(g), max_norm), grads)


def clip_by_value(grads: Any, limit: Any) -> Any:
    """Clip each element to [-limit, limit]; a complex one by its modulus."""

    def clip(g):
        if jnp.iscomplexobj(g):
            size = jnp.abs(g)
            return jnp.where(size > limit, g / jnp.maximum(size, limit) * limit, g)
        bound = jnp.asarray(limit, g.dtype)
        return jnp.clip(g, -bound, bound)

    return jax.tree.map(clip, grads)


def centralize(grads: Any) -> Any:
    """Subtract from each gradient its mean over all axes but the last.

    The last axis counts the outputs, as in ``x @ W``; gradients with fewer than two
    axes stay as they are.

    Source: Yong et al. 2020, Gradient Centralization, equation 1.
    """

    def center(g):
        if g.ndim < 2:
            return g
        return g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True)

    return jax.tree.map(center, grads)


def all_finite(grads: Any) -> Any:
    """Return whether no gradient has a NaN or an infinity, a 0-d bool array."""
    leaves = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
    return jnp.stack(leaves).all() if leaves else jnp.ones((), bool)


_ZERO = 0.0


def _square_sum(g: Any) -> Any:
    g = jnp.asarray(g)
    g = g.astype(jnp.promote_types(g.dtype, jnp.float32))
    return jnp.sum((g * g.conj()).real if jnp.iscomplexobj(g) else g * g)


def _scale_to(tree: Any, norm: Any, max_norm: Any) -> Any:
    max_norm = jnp.asarray(max_norm, norm.dtype)

    def scale(g):
        small = (g / norm.astype(g.dtype)) * max_norm.astype(g.dtype)
        return jnp.where(norm < max_norm, g, small)

    return jax.tree.map(scale, tree)
