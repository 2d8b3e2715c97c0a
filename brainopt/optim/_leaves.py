# SPDX-License-Identifier: Apache-2.0
"""The leaves of a tree of parameters: their paths, dtypes and first slots."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import StateDictError, VariableError, message
from ._precision import wide
from ._rows import Rows


def zeros(param: Any, dtype: Any = None, *, is_real: bool = False) -> Any:
    """Return a slot of zeros for ``param``: float32 or wider unless ``dtype`` says.

    Args:
        param: whose shape and sharding it takes.
        dtype: of the slot.
        is_real: whether a complex parameter gets a real slot.
    """
    if dtype is None:
        dtype = real(wide(param.dtype)) if is_real else wide(param.dtype)
    return jnp.zeros_like(param, dtype=dtype)


def real(dtype: Any) -> Any:
    """Return the real dtype of the same precision."""
    return jnp.finfo(dtype).dtype


def uphill(grad: Any) -> Any:
    """Return the direction in which a loss grows, from a gradient of `jax.grad`."""
    if isinstance(grad, Rows):
        return grad
    return grad.conj() if jnp.iscomplexobj(grad) else grad


def abs2(x: Any) -> Any:
    """Return the squared modulus, real for complex ``x``."""
    return (x * x.conj()).real if jnp.iscomplexobj(x) else x * x


def as_arrays(params: Any) -> Any:
    """Return a tree of parameters with arrays for its numbers.

    Raises:
        VariableError: a leaf is no number and no array.
    """
    wrong = [
        f"{path}: a {type(leaf).__name__}"
        for path, leaf in named(params)
        if not isinstance(leaf, jax.Array | np.ndarray | np.number | int | float)
        and not isinstance(leaf, complex)
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


def named(tree: Any, none: bool = False) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` of each leaf; with ``none`` also where None stands.

    Raises:
        StateDictError: two leaves have the same path.
    """
    found = paths(tree, lambda x: isinstance(x, Rows) or (none and x is None))
    if len({name for name, _ in found}) < len(found):
        raise StateDictError(message("Two parameters have the same path."))
    return found


def paths(tree: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` of each leaf; a box of flax is no part of the path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda x: _is_box(type(x)) or is_leaf(x)
    )
    found = []
    for keys, leaf in flat:
        inside = [((), leaf)]
        if _is_box(type(leaf)):
            inside, _ = jax.tree_util.tree_flatten_with_path(leaf, is_leaf=is_leaf)
        for own, part in inside:
            name = jax.tree_util.keystr((*keys, *own[1:]), simple=True, separator=".")
            found.append((name or "param", part))
    return found


@functools.lru_cache(maxsize=1024)
def _is_box(kind: type) -> bool:
    """Whether it is a Variable of nnx, or a box of linen, around one value."""
    return any(
        cls.__name__ in ("Variable", "AxisMetadata") and cls.__module__[:5] == "flax."
        for cls in kind.__mro__
    )
