# SPDX-License-Identifier: Apache-2.0
"""Gradients of a few rows of a large table, such as an embedding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, DTypeLike, PyTree, Values


@jax.tree_util.register_pytree_node_class
class Rows:
    """The gradient of some rows of a variable; all other rows have none.

    Args:
        indices: which rows, shape ``(n,)``, integers; a repeated row gets the
            sum of its gradients.
        values: their gradients, shape ``(n, *row)``.

    Example:
        >>> import brainopt as bo
        >>> table = bo.TrainVar(jnp.ones((4, 2)))
        >>> opt = bo.optim.SparseAdam(0.1, table)
        >>> opt.update(bo.optim.Rows(jnp.array([2]), jnp.ones((1, 2))))
        >>> table.value[:, 0].round(3).tolist()
        [1.0, 1.0, 0.9..., 1.0]
    """

    def __init__(self, indices: Any, values: Any):
        self.indices = indices
        self.values = values

    def tree_flatten(self):
        """Return indices and values."""
        return (self.indices, self.values), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Array, Array]):
        """Return rows made of indices and values."""
        return cls(*children)

    def astype(self, dtype: DTypeLike) -> Rows:
        """Return the same rows in another dtype."""
        return Rows(self.indices, self.values.astype(dtype))

    def __neg__(self) -> Rows:
        return Rows(self.indices, -self.values)

    def summed(self, size: int) -> Rows:
        """Return each row once, padded with the index ``size``, which is no row."""
        # Under `jit` the number of rows is fixed, so the places of repeated rows are
        # filled with ``size``: a write there is dropped, see `SparseAdam`. Rows -1 and
        # size - 1 are one row, and must be equal before they are compared.
        unique, places = jnp.unique(
            jnp.where(self.indices < 0, self.indices + size, self.indices),
            return_inverse=True,
            size=self.indices.shape[0],
            fill_value=size,
        )
        sums = jnp.zeros_like(self.values).at[places.reshape(-1)].add(self.values)
        return Rows(unique, sums)


def is_sparse(gradient: PyTree) -> bool:
    """Whether ``gradient`` is a sparse array of jax, without importing that module."""
    return type(gradient).__module__.startswith("jax.experimental.sparse")


def row_values(grads: PyTree) -> dict[str, Any]:
    """Return the gradients with each `Rows` replaced by its values."""
    return {k: g.values if isinstance(g, Rows) else g for k, g in grads.items()}


def as_rows(values: dict[str, Any], like: Values) -> dict[str, Any]:
    """Undo `row_values`."""
    return {
        k: Rows(g.indices, values[k]) if isinstance(g, Rows) else values[k]
        for k, g in like.items()
    }


def fit_rows(
    gradient: PyTree, value: PyTree, path: str, rows: bool
) -> tuple[Any, list]:
    """Return a sparse gradient as `Rows`, and what does not fit."""
    if not rows:
        kind = type(gradient).__name__
        return None, [f"{path}: a sparse gradient ({kind}); see `SparseAdam`"]
    if is_sparse(gradient):
        if getattr(gradient, "n_sparse", 0) != 1 or gradient.n_batch:
            return None, [f"{path}: sparse in more than its first axis"]
        # BCOO keeps one index for each sparse axis, so there is one column here.
        gradient = Rows(gradient.indices[:, 0], gradient.data)
    indices, values = jnp.asarray(gradient.indices), jnp.asarray(gradient.values)
    problem = ""
    if not jnp.issubdtype(indices.dtype, jnp.integer) or indices.ndim != 1:
        problem = f"rows named by {indices.dtype} of shape {indices.shape}"
    elif values.shape != (*indices.shape, *value.shape[1:]):
        problem = f"rows of shape {values.shape} for a variable of shape {value.shape}"
    elif not jnp.issubdtype(values.dtype, jnp.floating):
        problem = f"rows of dtype {values.dtype} for a {value.dtype} variable"
    return Rows(indices, values), [f"{path}: {problem}"] if problem else []
