# SPDX-License-Identifier: Apache-2.0
"""Parameters that a step leaves alone: those without a gradient, and their counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Array, PyTree, Slots, StepCount

_LAST = jnp.iinfo(jnp.int32).max


def next_step(count: StepCount) -> Any:
    """Return the number of the step that follows ``count`` steps; it saturates."""
    # The minimum first: ``count + 1`` of the last int32 is negative, and a negative
    # step turns the sign of each bias correction.
    return jnp.minimum(count, _LAST - 1) + 1


def add_counts(*counts: Any) -> Any:
    """Return the sum of two counts, or the last int32 where it lies beyond."""
    one, two = (jnp.asarray(count, jnp.int32) for count in counts)
    return one + jnp.minimum(two, _LAST - jnp.maximum(one, 0))


def counting(slots: Slots) -> dict[str, Any]:
    """Return the slots of a parameter with a count of the steps that it misses."""
    return {"missed_steps": jnp.zeros((), jnp.int32), **slots}


def skipped(slots: Slots) -> dict[str, Any]:
    """Return the slots of a parameter without a gradient: its step is not counted."""
    slots = counting(slots)
    return {**slots, "missed_steps": next_step(slots["missed_steps"])}


def unless_missed(
    path: str, present: Mapping[str, Any], new: PyTree, old: PyTree
) -> Any:
    """Return new values of a parameter, or the old ones if it has no gradient.

    Args:
        path: of the parameter.
        present: whether it has one, 0-d bool arrays, where only the run can tell.
        new: its values after the step.
        old: its values where it is left alone, of the same structure.
    """
    if path not in present:
        return new
    return jax.tree.map(lambda n, o: jnp.where(present[path], n, o), new, old)


def unless_skipped(
    path: str, present: Mapping[str, Any], moved: tuple, param: Array, slots: Slots
) -> Any:
    """Return a parameter and its slots after the step, or as a skipped step has them.

    Args:
        path: of the parameter.
        present: as above.
        moved: both after the step.
        param: the parameter before.
        slots: its slots before.
    """
    # Only where they may be needed: a count for each parameter of a large model would
    # take a third of the time of its trace.
    if path not in present:
        return moved
    return unless_missed(path, present, moved, (param, skipped(slots)))
