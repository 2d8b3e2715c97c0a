# SPDX-License-Identifier: Apache-2.0
"""What a Variable may hold: from user data to arrays, and what may replace what."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_key_array
from ..errors import VariableError, message

_SMALL = 8


def fit(new: Any, old: Any, batch_axis: int | None = None, label: str = "") -> Any:
    """Return ``new`` as something that may take the place of ``old``.

    Python numbers and numpy arrays become arrays; weak types become the dtype of
    ``old`` where that loses no kind (int to float, never float to int).

    Raises:
        VariableError: listing every leaf whose structure, shape or dtype differs.
    """
    if isinstance(old, jax.Array) and isinstance(new, jax.Array):
        if new.shape == old.shape and new.dtype == old.dtype and not new.weak_type:
            return new
    old_leaves, old_tree = jax.tree_util.tree_flatten_with_path(old)
    leaves, tree = jax.tree.flatten(new)
    problems = []
    if tree != old_tree:
        if isinstance(old, jax.Array) and isinstance(new, list | tuple):
            return fit(np.asarray(new), old, batch_axis, label)
        problems = [f"structure {tree} for {old_tree}"]
    else:
        for i, ((path, was), leaf) in enumerate(zip(old_leaves, leaves, strict=True)):
            leaves[i], problem = _fit_leaf(leaf, was, batch_axis)
            if problem:
                key = jax.tree_util.keystr(path)
                problems.append(f"{key}: {problem}" if key else problem)
    if problems:
        raise VariableError(
            message(
                f"{label} cannot take this value:",
                problems,
                "assign a value of the same shape and dtype; only a `batch_axis` may "
                "change its size.",
            )
        )
    return jax.tree.unflatten(tree, leaves)


def _fit_leaf(new: Any, old: Any, batch_axis: int | None) -> tuple[Any, str]:
    if not isinstance(new, jax.Array):
        weak = isinstance(new, bool | int | float | complex)
        try:
            new = jnp.array(new)
        except (TypeError, ValueError, OverflowError) as error:
            return new, f"{type(new).__name__} is no array ({error})"
    else:
        weak = new.weak_type
    if not same_shape(new.shape, old.shape, batch_axis):
        free = "" if batch_axis is None else f" (axis {batch_axis} may change)"
        return new, f"shape {new.shape} for shape {old.shape}{free}"
    if weak and _kind(new) <= _kind(old):
        return jax.lax.convert_element_type(new, old.dtype), ""
    if new.dtype != old.dtype:
        return new, f"dtype {new.dtype} for dtype {old.dtype}"
    return new, ""


def same_shape(new: tuple, old: tuple, batch_axis: int | None) -> bool:
    """Whether the shapes are equal but for the size of the batch axis."""
    if new == old:
        return True
    if batch_axis is None or len(new) != len(old):
        return False
    axis = batch_axis % len(old)
    return new[:axis] + new[axis + 1 :] == old[:axis] + old[axis + 1 :]


def _kind(array: Any) -> int:
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    for rank, kind in enumerate(kinds):
        if jnp.issubdtype(array.dtype, kind):
            return rank
    return len(kinds)


def _is_shape(value: Any) -> bool:
    def is_int(n):
        return isinstance(n, int | np.integer) and not isinstance(n, bool)

    return is_int(value) or (type(value) is tuple and all(map(is_int, value)))


def _is_tuple_of_numbers(value: Any) -> bool:
    return type(value) is tuple and all(
        isinstance(leaf, bool | int | float | complex | np.number)
        for leaf in jax.tree.leaves(value)
    )


def initial(value: Any, dtype: Any) -> Any:
    """Return the first value of a Variable made from data or from a shape."""
    if _is_shape(value):
        if any(n < 0 for n in np.atleast_1d(value)):
            raise VariableError(
                message(
                    f"A Variable of shape {value} cannot be made.",
                    help="an int or a tuple of ints is a shape; wrap data in a list or "
                    "an array.",
                )
            )
        return jnp.zeros(value, dtype)
    if type(value) is list or _is_tuple_of_numbers(value):
        return _initial_leaf(value, dtype)
    leaves, tree = jax.tree.flatten(value)
    return jax.tree.unflatten(tree, [_initial_leaf(leaf, dtype) for leaf in leaves])


def _initial_leaf(leaf: Any, dtype: Any) -> Any:
    if is_key_array(leaf):
        return leaf
    if isinstance(leaf, jax.Array) and dtype is None and not leaf.weak_type:
        return leaf
    try:
        array = jnp.array(leaf, dtype)
    except (TypeError, ValueError) as error:
        raise VariableError(
            message(
                f"A Variable cannot hold a {type(leaf).__name__} ({error}).",
                help="give numbers, an array, or a pytree of arrays.",
            )
        ) from None
    return (
        jax.lax.convert_element_type(array, array.dtype) if array.weak_type else array
    )


def check_batch_axis(value: Any, batch_axis: int | None) -> int | None:
    """Return ``batch_axis`` counted from the front, or raise `VariableError`."""
    if batch_axis is None:
        return None
    ndim = getattr(value, "ndim", 0)
    if not -ndim <= batch_axis < ndim:
        raise VariableError(
            message(f"batch_axis={batch_axis} for a value with {ndim} axes.")
        )
    return batch_axis % ndim


def check_axis_names(value, batch_axis, names) -> tuple[str, ...] | None:
    """Return one name an axis, or raise `VariableError`."""
    if names is None:
        return None
    names, ndim = tuple(names), getattr(value, "ndim", 0)
    if batch_axis is not None and len(names) == ndim - 1:
        names = (*names[:batch_axis], "batch", *names[batch_axis:])
    if len(names) != ndim:
        raise VariableError(
            message(f"axis_names={names} for a value with {ndim} axes.")
        )
    return names


def describe(value: Any) -> str:
    """Return shape, dtype, place and, for a small array, its numbers."""
    if not isinstance(value, jax.Array):
        return f"{jax.tree.map(lambda leaf: describe(leaf), value)}"
    text = f"shape={value.shape}, dtype={value.dtype}"
    if isinstance(value, jax.core.Tracer):
        return f"{text}, traced"
    if value.is_deleted():
        return f"{text}, lost"
    text += f", {place(value)}"
    if value.size <= _SMALL and not is_key_array(value):
        text += f", value={np.asarray(value).tolist()}"
    return text


def place(value: jax.Array) -> str:
    """Return the device of an array, or its sharding over several."""
    devices = sorted(value.devices(), key=lambda device: device.id)
    first = f"{devices[0].platform}:{devices[0].id}"
    return f"device={first}" if len(devices) == 1 else f"sharding={value.sharding}"
