# SPDX-License-Identifier: Apache-2.0
"""Raising once too many gradients in a row were not finite."""

from __future__ import annotations

from typing import Any

import jax
from jax.core import Tracer

from ..errors import GradientError, message
from ..runtime import depend_on


def limit_of(optimizer: Any) -> int | None:
    """Return how many bad steps in a row raise; None for never."""
    if optimizer.nonfinite == "raise" and optimizer.max_nonfinite is None:
        return 1
    return optimizer.max_nonfinite


def watch(optimizer: Any) -> None:
    """Raise once the limit is reached; inside a compiled step, at its next call.

    Raises:
        GradientError: gradients were not finite so many times in a row.
    """
    limit = limit_of(optimizer)
    if limit is None:
        return
    row = optimizer.counters["in_a_row"].value

    def trip(row: Any) -> None:
        # A compiled step runs no Python. Declaring it out of date makes its next call
        # trace, and `before` raises there; the state is that of the last good step.
        if row.max() >= limit:
            vars(optimizer)["_has_tripped"] = True
            optimizer.revision.changed()

    if isinstance(row, Tracer):
        jax.debug.callback(trip, row)
    elif int(row) >= limit:
        _complain(int(row))


def before(optimizer: Any) -> None:
    """Raise if a compiled step has reached the limit since."""
    if limit_of(optimizer) is None:
        return
    depend_on(optimizer.revision)
    if vars(optimizer).pop("_has_tripped", False):
        _complain(limit_of(optimizer))


def _complain(row: Any) -> None:
    raise GradientError(
        message(
            f"The gradients were not finite {row} times in a row; none of these "
            f"steps was taken.",
            help="lower the learning rate, clip the gradients, or look for the "
            "first bad one with jax_debug_nans.",
        )
    )
