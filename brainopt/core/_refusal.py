# SPDX-License-Identifier: Apache-2.0
"""Models of other frameworks that a function cannot be compiled with, and why."""

from __future__ import annotations

from collections.abc import Callable

import jax

from ..errors import message
from ._host import find, registered, wake_entry_points


def refusal(function: Callable, args: tuple, kwargs: dict) -> str:
    """Return why ``bo.jit`` cannot compile this call, or nothing."""
    wake_entry_points()
    for host in registered():
        if reason := host.refuse(function, args, kwargs):
            return reason
    return ""


def models_among(args: tuple, kwargs: dict) -> str:
    """Return why JAX cannot take the models among these arguments, or nothing."""
    leaves = jax.tree.leaves((args, kwargs))
    kinds = {type(leaf).__name__ for leaf in leaves if find(leaf) is not None}
    if not kinds:
        return ""
    return message(
        "bo.jit takes no model of another framework as an argument:",
        sorted(kinds),
        "let the function close over it, as `bo.jit(lambda x: model(x))`, or name its "
        "place: `static_argnums=0`; its state is read and written all the same.",
    )
