# SPDX-License-Identifier: Apache-2.0
"""Reset: the values that Variables were made with, and the return to them.

A Variable that is made from a shape keeps nothing: its first value is zero. Another
one keeps the array that it had when it became part of a Node, or one number of it where
all of a large array are equal, as in most states. A `TrainVar` keeps none.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import runtime
from .._compat import is_eager, is_key_array
from .._typing import Model
from ..errors import VariableError, message
from . import _host, _walk
from ._variable import TrainVar, Variable


def remember(variable: Variable) -> None:
    """Keep the value that a Variable of a Node has first."""
    if isinstance(variable, TrainVar) or not variable._native or variable._draws:
        return
    if not hasattr(variable, "_first") and runtime.top() is None and is_eager():
        # Not copied: a step that donates finds it held elsewhere, and copies it then.
        variable._first = _compact(variable._committed())


_LARGE = 2**16  # bytes


def _compact(value: Any) -> Any:
    """Return an equal array of one number where all of a large one are equal."""
    if not isinstance(value, jax.Array) or is_key_array(value):
        return value
    if value.nbytes < _LARGE or value.sharding.device_set != _host_devices():
        return value
    shared: Any = value
    try:
        # A view that ends here; `np.asarray` would be kept by the array.
        numbers = np.from_dlpack(shared)
    except (TypeError, ValueError, BufferError, RuntimeError):  # a narrow dtype
        return value
    one = numbers.reshape(-1)[:1].copy()
    if not (numbers == one).all():
        return value
    return np.broadcast_to(one.reshape(()), numbers.shape)


def _host_devices() -> set[Any]:
    return set(jax.local_devices(backend="cpu")[:1])


def reset(root: Model, batch_size: int | None = None) -> None:
    """Set every Variable that nothing trains back to the value it was made with.

    Weights (`TrainVar`), random states and what belongs to an optimizer stay as they
    are. All Variables change at once or, after an error, none.

    Args:
        batch_size: the new size of each `batch_axis`; default: that of the first value.

    The models of brainpy and brainstate inside, attached or as they are, are set back
    by the ``reset_state`` of their framework.

    Raises:
        VariableError: a Variable has no first value that is known; or none has a
            batch axis, or its first rows differ, and a batch size is given.
        HostError: the framework of a model inside has no such function.

    Example:
        >>> import brainopt as bo
        >>> cell = bo.Node()
        >>> cell.v = bo.Variable([[-65.0, -65.0]], batch_axis=0)
        >>> cell.v.value = cell.v + 10
        >>> cell.reset(batch_size=3)
        >>> cell.v.shape, float(cell.v.value.max())
        ((3, 2), -65.0)

    Differs: brainpy and brainstate call the ``reset_state`` that each model writes.
    """
    models = [model for _, model in _walk.foreign_models(root)]
    states = [set(_walk.collect_vars(model).values()) for model in models]
    owned: set[Variable] = set().union(*states)
    found = {
        owned.variable: owned.path
        for owned in _walk.walk_vars(root)
        if owned.owner is None or owned.owner._resets
        if not isinstance(owned.variable, TrainVar) and not owned.variable._draws
    }
    foreign = [v for v in found if v in owned]
    found = {v: path for v, path in found.items() if v not in owned}
    _check_known(found)
    batched = [v for v in found if v.batch_axis is not None]
    if batch_size is not None and not batched and not foreign:
        raise VariableError(
            message(
                f"batch_size={batch_size}, but no Variable has a batch axis.",
                help="make them as `bo.Variable(value, batch_axis=0)`.",
            )
        )
    # All are made before the first is written, so an error leaves the model as it was.
    new = [_first(v, path, batch_size) for v, path in found.items()]
    stateful = zip(models, states, strict=True)
    models = [model for model, held in stateful if not held.isdisjoint(foreign)]
    _reset_models(models, foreign, batch_size)
    runtime.commit(list(found), new)


def _check_known(found: dict[Variable, str]) -> None:
    unknown = [path for v, path in found.items() if not hasattr(v, "_first")]
    if unknown:
        raise VariableError(
            message(
                "The first values of these Variables are not known:",
                unknown,
                "make them outside of transforms and assign them to a Node.",
            )
        )


def _reset_models(
    models: list[Any], variables: list[Variable], batch_size: int | None
) -> None:
    """Set models of other frameworks back; all of them or, after an error, none."""
    before = [runtime.read(v) for v in variables]
    try:
        for model in models:
            _host.reset(model, batch_size)
    except BaseException:
        runtime.commit(variables, before)
        raise


def _first(variable: Variable, path: str, batch_size: int | None) -> Any:
    old, axis = runtime.read(variable), variable.batch_axis
    first = variable._first
    if isinstance(first, jax.ShapeDtypeStruct):
        first = np.zeros(first.shape, first.dtype)
    if batch_size is not None and axis is not None and first.shape[axis] != batch_size:
        rows = np.asarray(first)  # of NumPy: inside a transform it has its numbers too
        row = np.take(rows, [0], axis) if first.shape[axis] else None
        if row is None or not (rows == row).all():
            raise VariableError(
                message(
                    f"{path}: the rows of its first value along the batch axis differ, "
                    f"so there are not {batch_size} of them.",
                    help="leave `batch_size` out.",
                )
            )
        first = jnp.repeat(row, batch_size, axis=axis)
    return jax.tree.map(_at_the_place_of, first, old)


def _at_the_place_of(new: Any, old: Any) -> Any:
    new = jnp.asarray(new)
    if isinstance(old, jax.core.Tracer) or old.sharding == new.sharding:
        return new
    place = old.sharding
    if len(old.devices()) == 1:
        place = next(iter(old.devices()))
    return runtime.put(new, place)
