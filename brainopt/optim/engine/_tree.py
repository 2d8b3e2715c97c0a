# SPDX-License-Identifier: Apache-2.0
"""The leaves of a tree of parameters: their paths, dtypes and first slots."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..._compat import is_key_array
from ..._typing import Array, DTypeLike, PyTree
from ...core import tree_paths
from ...errors import StateDictError, VariableError, message
from ._precision import wide
from ._rows import Rows

NUMBERS = jax.Array | np.ndarray | np.number | int | float | complex


def zeros(
    param: Array, dtype: DTypeLike | None = None, *, is_real: bool = False
) -> Any:
    """Return a slot of zeros for ``param``: float32 or wider unless ``dtype`` says.

    Args:
        param: whose shape and sharding it takes.
        dtype: of the slot.
        is_real: whether a complex parameter gets a real slot.
    """
    if dtype is None:
        dtype = real(wide(param.dtype)) if is_real else wide(param.dtype)
    if isinstance(param, Tracer) or getattr(param, "committed", True):
        return jnp.zeros_like(param, dtype=dtype)  # keeps the place
    return _zeros(param.shape, dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    # A tenth of the time of `jnp.zeros`, of which an optimizer needs hundreds.
    return jnp.zeros(shape, dtype)


def real(dtype: DTypeLike | None) -> Any:
    """Return the real dtype of the same precision."""
    return jnp.finfo(dtype).dtype


def uphill(grad: Array) -> Any:
    """Return the direction in which a loss grows, from a gradient of `jax.grad`."""
    # Rows are real, see `_parameters._fit_rows`.
    if isinstance(grad, Rows):
        return grad
    return grad.conj() if jnp.iscomplexobj(grad) else grad


@jax.custom_jvp
def safe_sqrt(x: Array) -> Any:
    """Return the square root, with the derivative 0 at 0.

    A moment is 0 where a gradient has always been 0. There the derivative of a step is
    0 times that of the root, which is infinite.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (x,), (change,) = primals, tangents
    # `where` around a division is not enough: the branch that is not taken still has a
    # derivative, and 0 times inf is NaN. So the divisor itself is replaced.
    found = jnp.sqrt(x)
    is_zero = x == 0
    slope = jnp.where(is_zero, 0, 0.5 / jnp.where(is_zero, 1, found))
    return found, change * slope.astype(found.dtype)


def abs2(x: Array) -> Any:
    """Return the squared modulus, real for complex ``x``."""
    return (x * x.conj()).real if jnp.iscomplexobj(x) else x * x


def as_arrays(params: PyTree) -> Any:
    """Return a tree of parameters with arrays for its numbers.

    Raises:
        VariableError: a leaf is no number and no array of numbers.
    """
    wrong = [
        f"{path}: a {type(leaf).__name__}"
        for path, leaf in named(params)
        if is_key_array(leaf) or not isinstance(leaf, NUMBERS)
    ]
    if wrong:
        raise VariableError(
            message(
                "These leaves are no parameters:",
                wrong,
                "give the arrays alone, as eqx.filter(model, eqx.is_inexact_array).",
            )
        )
    return jax.tree.map(jnp.asarray, params)


def named(tree: PyTree, none: bool = False) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` of each leaf; with ``none`` also of each None.

    Raises:
        StateDictError: two leaves have the same path.
    """
    # To JAX a `Rows` is a node of two leaves; here it is one gradient.
    found = tree_paths(tree, lambda x: isinstance(x, Rows) or (none and x is None))
    counts = Counter(name for name, _ in found)
    if len(counts) < len(found):
        twice = [name for name, count in counts.items() if count > 1]
        raise StateDictError(
            message(
                "Two parameters have the same path:",
                twice,
                "a dot in a key, or keys such as 1 and '1', give the same path.",
            )
        )
    return found


def is_like(gradient: PyTree, kind: jax.ShapeDtypeStruct | None) -> bool:
    """Whether this is an array outside of every trace, of a shape and a dtype."""
    # The usual case of an eager step, which pays for each array.
    return (
        kind is not None
        and isinstance(gradient, jax.Array)
        and gradient.shape == kind.shape
        and gradient.dtype == kind.dtype
        and not isinstance(gradient, Tracer)
    )
