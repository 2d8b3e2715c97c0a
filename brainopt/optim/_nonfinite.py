# SPDX-License-Identifier: Apache-2.0
"""Raising once too many gradients in a row were not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._typing import Array, Arrays
from ..errors import GradientError, message
from ..runtime import depend_on
from .engine._rows import row_values


def limit_of(optimizer: Any) -> int | None:
    """Return how many bad steps in a row raise; None for never."""
    if optimizer.nonfinite == "raise" and optimizer.max_nonfinite is None:
        return 1
    return optimizer.max_nonfinite


def watch(optimizer: Any, grads: Arrays) -> None:
    """Raise once the limit is reached; inside a compiled step, at its next call.

    Args:
        optimizer: has taken its step.
        grads: of that step, by path.

    Raises:
        GradientError: gradients were not finite so many times in a row.
    """
    limit = limit_of(optimizer)
    if limit is None:
        return
    row, step = optimizer.counters["in_a_row"].value, optimizer.step.value

    def note_limit(row: Array, step: Array, counts: dict[str, Any]) -> None:
        # A compiled step runs no Python. Declaring it out of date makes its next call
        # trace, and `before` raises there; the state is that of the last good step.
        if row.max() >= limit:
            last = jax.tree.map(np.asarray, (step, counts))  # raised while tracing
            vars(optimizer)["_limit_reached"] = last
            optimizer._revision.changed()

    if isinstance(row, Tracer):
        jax.debug.callback(note_limit, row, step, _counts(optimizer, grads))
    elif int(row) >= limit:
        _raise(optimizer, int(row), step, _counts(optimizer, grads))


def _counts(optimizer: Any, grads: Arrays) -> dict[str, tuple[Any, Any]]:
    """Return by path how many numbers of a gradient are not finite, and of how many."""
    return {
        path: ((~jnp.isfinite(grad)).sum(), jnp.size(grad))
        for path, grad in row_values(grads).items()
        if grad is not None and path not in optimizer.frozen
    }


def before(optimizer: Any) -> None:
    """Raise if a compiled step has reached the limit since."""
    if limit_of(optimizer) is None:
        return
    depend_on(optimizer._revision)
    if reached := vars(optimizer).pop("_limit_reached", None):
        _raise(optimizer, limit_of(optimizer), *reached)


def _raise(
    optimizer: Any, row: int | None, step: Array, counts: dict[str, Any]
) -> None:
    bad = [
        f"{path}: {int(np.max(count)):,} of {int(np.max(size)):,} numbers"
        for path, (count, size) in counts.items()
        if np.max(count)
    ]
    # Only a sum of micro-batches is not finite where each gradient is.
    summed = " The last was finite, but overflows in the sum with those before it."
    end = " The last:" if bad else summed
    raise GradientError(
        message(
            f"The gradients of this {type(optimizer).__name__} were not finite {row} "
            f"times in a row after step {int(np.max(step))}; none of these steps was "
            f"taken.{end}",
            bad,
            "lower the learning rate, clip the gradients, or find the operation that "
            "gave the first of them with `bo.debug.find_nan(step, ...)`.",
        )
    )
