# SPDX-License-Identifier: Apache-2.0
"""Values of Variables: arrays made of user data, and checks of a new value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .._compat import is_key_array
from .._dtypes import is_weak, keeps_kind
from .._typing import DTypeLike, PyTree
from ..errors import VariableError, message
from ._paths import entries
from ._units import converted, is_quantity, wrong_units

_SMALL = 8


def plain(tree: PyTree) -> Any:
    """Return ``tree`` with the value in the place of each Variable and view.

    So it is with what else wraps an array, as the arrays of brainpy do.
    """
    if isinstance(tree, jax.Array):
        return tree
    return jax.tree.map(
        lambda x: x.__jax_array__() if _wraps(x) else x, tree, is_leaf=_wraps
    )


def _wraps(x: PyTree) -> bool:
    return not isinstance(x, jax.Array) and hasattr(type(x), "__jax_array__")


def same_shape(new: tuple, old: tuple, batch_axis: int | None) -> bool:
    """Whether the shapes are equal but for the size of the batch axis."""
    if new == old:
        return True
    if batch_axis is None or len(new) != len(old):
        return False
    axis = batch_axis % len(old)
    return new[:axis] + new[axis + 1 :] == old[:axis] + old[axis + 1 :]


def fit(new: PyTree, old: PyTree, batch_axis: int | None, owner: Any) -> Any:
    """Return ``new`` as something that may take the place of ``old``.

    Python numbers, lists of them and numpy arrays become arrays; what has no dtype of
    its own takes that of ``old`` where this loses no kind (int to float, never float
    to int).

    Raises:
        VariableError: listing every leaf whose structure, shape or dtype differs.
    """
    # What nearly every write of a step is, without looking at trees.
    if (
        isinstance(old, jax.Array)
        and isinstance(new, jax.Array)
        and new.shape == old.shape
        and new.dtype == old.dtype
        and not is_weak(new)
    ):
        return new
    new = plain(new)
    if is_quantity(new) or not isinstance(old, jax.Array):
        new, wrong = converted(new, old)
        if wrong:
            raise VariableError(wrong_units(owner.label, wrong))
    tree = jax.tree.structure(old)
    try:
        # Down to the leaves of ``old``: a nested list stays whole where an array was.
        leaves = tree.flatten_up_to(new)
        problems = []
    except (ValueError, TypeError):
        leaves, problems = [], [f"{_outline(new)} for {_outline(old)}"]
    for i, ((path, was), leaf) in enumerate(zip(entries(old), leaves, strict=False)):
        leaves[i], problem = _fit_leaf(leaf, was, batch_axis)
        if problem:
            problems.append(f"{path}: {problem}" if path else problem)
    if problems:
        raise VariableError(
            message(
                f"{owner.label} cannot take this value:",
                problems,
                "assign a value of the same shape and dtype; only a `batch_axis` may "
                "change its size.",
            )
        )
    return jax.tree.unflatten(tree, leaves)


def _fit_leaf(new: PyTree, old: PyTree, batch_axis: int | None) -> tuple[Any, str]:
    weak = is_weak(new)
    try:
        array = new if isinstance(new, jax.Array) else jnp.array(new)
    except (TypeError, ValueError, OverflowError) as error:
        return new, f"{type(new).__name__} is no array ({error})"
    if not same_shape(array.shape, old.shape, batch_axis):
        free = "" if batch_axis is None else f" (axis {batch_axis} may change)"
        return new, f"shape {array.shape} for shape {old.shape}{free}"
    if not weak:
        fits = array.dtype == old.dtype
    else:
        fits = keeps_kind(array.dtype, old.dtype)
    if not fits:
        return new, f"dtype {array.dtype} for dtype {old.dtype}"
    if not weak:
        return array, ""
    if array is new:  # of a weak type, and so without Python numbers to check
        return jax.lax.convert_element_type(array, old.dtype), ""
    try:
        # From the Python numbers, so that 300 is refused by int8 and not wrapped.
        return jnp.array(np.array(new, old.dtype)), ""
    except OverflowError as error:
        return new, str(error)


def _outline(value: PyTree) -> str:
    if isinstance(value, jax.Array) or not isinstance(value, dict | list | tuple):
        return "an array" if hasattr(value, "shape") else f"{type(value).__name__}"
    return f"the structure {jax.tree.map(lambda _: '*', value)}"


def _is_shape(value: PyTree) -> bool:
    if type(value) is tuple:
        return all(isinstance(n, int | np.integer) and n is not True for n in value)
    return type(value) is int


def initial(value: PyTree, dtype: DTypeLike | None) -> Any:
    """Return the first value of a Variable made from data or from a shape."""
    # By the exact type: True is an int too, and a named tuple is data.
    if type(value) in (int, tuple) and _is_shape(value):
        if any(n < 0 for n in np.atleast_1d(np.asarray(value, int))):
            raise VariableError(
                message(
                    f"A Variable of shape {value} cannot be made.",
                    help="an int or a tuple of ints is a shape; wrap data in a list or "
                    "an array.",
                )
            )
        return jnp.zeros(value, dtype)
    value = plain(value)
    if type(value) is list or is_weak(value):
        return _initial_leaf("", value, dtype)
    # To JAX None is an empty tree; as a leaf it gets an error that names its place.
    flat, tree = jax.tree_util.tree_flatten_with_path(
        value, is_leaf=lambda x: x is None or (type(x) is list and is_weak(x))
    )
    name = jax.tree_util.keystr
    leaves = [_initial_leaf(name(keys), leaf, dtype) for keys, leaf in flat]
    return jax.tree.unflatten(tree, leaves)


def _initial_leaf(path: str, leaf: PyTree, dtype: Any) -> Any:
    if is_key_array(leaf):
        return leaf
    if isinstance(leaf, jax.Array) and dtype is None and not leaf.weak_type:
        return leaf
    try:
        if leaf is None:
            raise TypeError("None has no shape")
        array = jnp.array(leaf, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        where = f" at {path}" if path else ""
        raise VariableError(
            message(
                f"A Variable cannot hold a {type(leaf).__name__}{where} ({error}).",
                help="give numbers, an array, or a pytree of arrays.",
            )
        ) from None
    # A weak type would be lost in the first step, and the second would compile again.
    return (
        jax.lax.convert_element_type(array, array.dtype) if array.weak_type else array
    )


_ARRAYS: set[type] = set()
"""The classes of the arrays and tracers that were seen; a look-up here is quick."""


def fresh(value: PyTree) -> Any:
    """Return the value of a Variable for a caller that may use it up.

    Objects are made anew around the same arrays: one that changes when it is used, as
    the State of equinox does, would spoil what the Variable holds.
    """
    if type(value) in _ARRAYS:
        return value
    if isinstance(value, jax.Array | jax.core.Tracer):
        _ARRAYS.add(type(value))
        return value
    return value if _is_builtin(value) else jax.tree.map(lambda leaf: leaf, value)


def _is_builtin(value: PyTree) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_builtin, value))
    if type(value) is dict:
        return all(map(_is_builtin, value.values()))
    return value is None or jax.tree_util.all_leaves([value])


def check_batch_axis(value: PyTree, batch_axis: int | None) -> int | None:
    """Return ``batch_axis`` counted from the front, or raise `VariableError`."""
    if batch_axis is None:
        return None
    ndim = getattr(value, "ndim", 0)
    if not -ndim <= batch_axis < ndim:
        raise VariableError(
            message(f"batch_axis={batch_axis} for a value with {ndim} axes.")
        )
    return batch_axis % ndim


def check_axis_names(
    value: PyTree, batch_axis: int | None, names: Sequence[str] | None
) -> tuple[str, ...] | None:
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


def describe(value: PyTree) -> str:
    """Return shape, dtype, place and, for a small array, its numbers."""
    return ", ".join(
        f"{path}: {_describe(leaf)}" if path else _describe(leaf)
        for path, leaf in entries(value)
    )


def _describe(value: PyTree) -> str:
    if not hasattr(value, "dtype"):
        return repr(value)
    text = f"shape={value.shape}, dtype={value.dtype}"
    if not isinstance(value, jax.Array):
        return text
    if isinstance(value, jax.core.Tracer):
        return f"{text}, traced"
    if value.is_deleted():
        return f"{text}, lost"
    kind = "device" if len(value.devices()) == 1 else "sharding"
    text += f", {kind}={place(value)}"
    if value.size <= _SMALL and value.is_fully_addressable and not is_key_array(value):
        shown = np.array2string(np.asarray(value), separator=", ")
        text += f", value={' '.join(shown.split())}"
    return text


def place(value: PyTree) -> str:
    """Return the device of an array as ``cpu:0``, or its sharding over several."""
    if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array):
        return "-"
    devices = sorted(value.devices(), key=lambda device: device.id)
    first = f"{devices[0].platform}:{devices[0].id}"
    if len(devices) == 1:
        return first
    spec = getattr(value.sharding, "spec", None)
    axes = f"{tuple(spec)}" if spec is not None else type(value.sharding).__name__
    return f"{axes} on {len(devices)} {devices[0].platform}"
