# SPDX-License-Identifier: Apache-2.0
"""The functional core of an optimizer: two pure functions on a state of the caller.

A state is a tree of arrays, and one of its entries is a vector of numbers for each
group and schedule. What the places of a vector mean is not in an array, so the state
says it beside them, in keys of dicts that are empty: these are a part of its structure,
pass through each transform and file, and have no leaf that a caller would meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import PyTree, Scalar
from ..core import gradient_in, join
from ..errors import GradientError, message
from ._ages import MISSED
from ._parameters import check_fit
from ._stepping import advance, hypers_of, owned, slots_of
from .engine._tree import as_arrays, named
from .hyperparameters._numbers import HyperparamVector
from .settings._bounds import convert_bounds
from .settings._unmatched import warn_of_unmatched_rules

_NAMES = "names"


def init(optimizer: Any, params: PyTree) -> dict[str, Any]:
    """Return the first state for a pytree of parameters."""
    params = as_arrays(params)
    convert_bounds(optimizer, params)
    if named(params):
        warn_of_unmatched_rules(optimizer, params)
    return _first_state(optimizer, params)


def apply(
    optimizer: Any,
    params: PyTree,
    state: PyTree,
    grads: PyTree,
    weight: Scalar | None,
    around: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Return parameters and state after one step; see `HyperCache` for ``around``."""
    # All checks come first. `eval_shape` gives the expected state without computing it.
    params, slots = as_arrays(params), state.get("slots", {})
    owner = type(optimizer).__name__
    grads, wrong = gradient_in(grads, params)
    if wrong:
        raise GradientError(message(f"The gradients do not fit this {owner}:", wrong))
    check_fit(owner, params, slots, grads, optimizer._takes_rows)
    first = jax.eval_shape(lambda given: _first_state(optimizer, given), params)
    _check_state(owner, first, state)
    grads = jax.tree.map(jnp.asarray, grads)
    params, new = advance(optimizer, params, state, grads, weight, around)
    return params, {**state, **new}


def _first_state(optimizer: Any, params: PyTree) -> dict[str, Any]:
    own, first = owned(optimizer), {"step": jnp.zeros_like(optimizer.step.value)}
    for stage in optimizer._engine().stages:
        first |= {f"counters.{name}": value for name, value in stage.first().items()}
    state = {
        path: first[path]
        if path in first
        else jax.tree.map(jnp.copy, variable.value)  # it may be donated
        for path, variable in own.items()
    }
    names = {
        path: {f"{variable.owner}({', '.join(variable.names)})": {}}
        for path, variable in own.items()
        if isinstance(variable, HyperparamVector)
    }
    hypers, leaves = hypers_of(optimizer), named(params)
    slots = {path: slots_of(optimizer, path, leaf, hypers) for path, leaf in leaves}
    slots |= optimizer._shared_slots(dict(leaves))
    return {**state, _NAMES: names, "slots": slots}


def _check_state(owner: str, expected: PyTree, state: PyTree) -> None:
    """Raise `GradientError` if a state is of something else, or has other shapes."""
    held, wanted = dict(_entries(state)), dict(_entries(expected))
    problems = [f"missing: {path}" for path in wanted if path not in held]
    problems += [f"unexpected: {path}" for path in held if path not in wanted]
    for path, leaf in wanted.items():
        own = held.get(path, leaf)
        if isinstance(leaf, str):
            problems += [f"{path}: those of {own}, not {leaf}"] * (own != leaf)
        elif np.shape(own) != leaf.shape:
            problems.append(f"{path}: shape {np.shape(own)} for {leaf.shape}")
        elif isinstance(own, jax.Array) and not _is_held(own.dtype):
            # A state made with x64, used without: JAX would round it in the step.
            problems.append(f"{path}: {own.dtype}, which needs jax_enable_x64")
    if problems:
        raise GradientError(
            message(
                f"The state does not match this {owner} and these parameters:",
                problems,
                "make one by `init`, or construct the optimizer with the same "
                "arguments as before.",
            )
        )


def _is_held(dtype: Any) -> bool:
    """Whether JAX computes in a dtype, as it is configured now."""
    return jax.dtypes.canonicalize_dtype(dtype) == dtype


def _entries(state: PyTree) -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if name == _NAMES:
            yield from ((join(name, k), ", ".join(kind)) for k, kind in value.items())
        elif name != "slots":
            yield name, value
        else:
            for path, slots in value.items():
                # Not every state has the ages: they begin with the first None.
                kept = ((k, v) for k, v in slots.items() if k != MISSED)
                yield from ((join("slots", join(path, k)), v) for k, v in kept)
