# SPDX-License-Identifier: Apache-2.0
"""Boxes: parts of an array that are one range of indices along each axis."""

from collections.abc import Sequence
from typing import Any

Box = tuple[tuple[int, int], ...]
"""For each axis the first index and the one after the last."""


def whole(shape: Sequence[int]) -> Box:
    """Return the box that is all of an array."""
    return tuple((0, size) for size in shape)


def box_of(index: Sequence[slice], shape: Sequence[int]) -> Box:
    """Return the box that slices without a step mean."""
    return tuple(
        (start, max(start, stop))
        for start, stop, _ in (
            part.indices(size) for part, size in zip(index, shape, strict=True)
        )
    )


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(stop - start for start, stop in box)


def common(one: Box, two: Box) -> Box | None:
    """Return what two boxes have in common, or None."""
    both = tuple(
        (max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(one, two, strict=True)
    )
    return both if all(start < stop for start, stop in both) else None


def slices(box: Box, within: Box | None = None) -> tuple[Any, ...]:
    """Return the index of a box in an array that is the box ``within``: a view."""
    origin = [0] * len(box) if within is None else [start for start, _ in within]
    parts = (
        slice(start - first, stop - first)
        for (start, stop), first in zip(box, origin, strict=True)
    )
    return (*parts, ...)  # without the dots a box of no axes would be a copy
