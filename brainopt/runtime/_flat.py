# SPDX-License-Identifier: Apache-2.0
"""Flat arrays: many small arrays side by side in one, for the time of a trace.

**How it works.** XLA pays for each array of a program, however small. A program may
therefore take many Variables as one flat array. While it is traced, `sliced` cuts the
flat array into the values of the Variables, and remembers from where each was cut. Code
that treats every element alike asks `flat_of` for the array behind a list of values,
computes on that, and cuts the result with `sliced` again. At the end of the trace
`flat_of` finds the new flat array behind the new values.

A value that something else has computed was not cut, and `flat_of` answers None: the
caller then goes on with the values one by one.

**What must never happen.** A tracer that is remembered beyond its trace: another one
may get its id. So the memory belongs to the block of one trace.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array

_WIDTH = 32  # operands of one concatenation; XLA is slow with hundreds


class _Local(threading.local):
    def __init__(self):
        self.slices: dict[int, tuple[Any, Any, int]] | None = None
        """By the id of a slice: the slice itself, the flat array, and the offset."""


_local = _Local()


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Remember in the block, the trace of one program, what `sliced` cuts."""
    before, _local.slices = _local.slices, {}
    try:
        yield
    finally:
        _local.slices = before


def sliced(
    flat: Array,
    shapes: Sequence[tuple[int, ...]],
    offsets: Mapping[int, Array] | None = None,
) -> list[Any]:
    """Return arrays of the given shapes, cut from a flat array in order.

    Args:
        flat: of shape ``(n,)``.
        shapes: of the arrays.
        offsets: numbers to cut at in the place of constants.
    """
    found, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        if offsets and start in offsets:
            at = (offsets[start],)
            part = jax.lax.dynamic_slice(flat, at, (stop - start,)).reshape(shape)
        else:
            part = jax.lax.slice(flat, (start,), (stop,)).reshape(shape)
        if _local.slices is not None:
            _local.slices[id(part)] = part, flat, start
        found.append(part)
        start = stop
    return found


def flat_of(arrays: Sequence[Array]) -> Any:
    """Return the flat array that these are all the slices of, in order, or None."""
    known, flat, start = _local.slices or {}, None, 0
    for array in arrays:
        _, source, offset = known.get(id(array), (None, None, -1))
        flat = source if flat is None else flat
        if source is None or source is not flat or offset != start:
            return None
        start += array.size
    return flat if flat is not None and flat.size == start else None


def joined(arrays: Sequence[Array]) -> Any:
    """Return arrays of one dtype side by side in one flat array."""
    parts = [jnp.ravel(array) for array in arrays]
    while len(parts) > 1:
        starts = range(0, len(parts), _WIDTH)
        parts = [jnp.concatenate(parts[i : i + _WIDTH]) for i in starts]
    return parts[0]
