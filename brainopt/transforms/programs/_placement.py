# SPDX-License-Identifier: Apache-2.0
"""Placement: the shardings of the results of a program, those of its Variables.

JAX alone would choose the sharding of each result anew. Moments divided over the
devices would divide the weights that they update, and those the next moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import runtime
from ...runtime import Cell
from ._encoding import Encoding, is_plain


def places(variables: Sequence[Cell]) -> tuple[Any, ...]:
    """Return the places of Variables now; None for what has none."""
    return runtime.shardings(variable._committed() for variable in variables)


def returned(
    variables: Sequence[Cell], places: tuple, encoding: Encoding | None
) -> tuple[Any, ...]:
    """Return the places in the form in which the values leave a computation.

    Args:
        variables: what is written.
        places: of their values.
        encoding: of the values that JAX would rebuild in Python; None where they
            leave as they are.
    """
    if encoding is None or not runtime.has_place(places):
        return places
    # The encoded form has other leaves than the value, so its places have too.
    values = [variable._committed() for variable in variables]
    return tuple(
        place if is_plain(value) else encoding.encode_places(value, place)
        for value, place in zip(values, places, strict=True)
    )


def aligned(options: dict[str, Any], places: tuple) -> dict[str, Any]:
    """Return options of `jax.jit` for ``(donated, kept, args, kwargs)``.

    Args:
        options: as for the function of the user.
        places: of the values written, which come before its result.
    """
    # The user's options are about the user's arguments and result; the values of the
    # Variables stand before both.
    options = dict(options)
    if "in_shardings" in options:
        options["in_shardings"] = (None, None, options["in_shardings"], None)
    if "out_shardings" in options or runtime.has_place(places):
        options["out_shardings"] = (places, options.get("out_shardings"))
    return options


def options_of_jit(
    options: dict[str, Any],
    written: Sequence[Cell],
    places: tuple,
    encoding: Encoding | None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the options of `jax.jit` at top level, and inside another trace.

    A trace around a program decides about places, so inside of it the results are free
    to choose; None where that makes no difference.
    """
    there = returned(written, places, encoding)
    free = aligned(options, (None,) * len(written))
    return aligned(options, there), free if runtime.has_place(there) else None
