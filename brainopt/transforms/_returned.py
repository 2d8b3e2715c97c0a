# SPDX-License-Identifier: Apache-2.0
"""Nodes that leave a transform: what they may hold beside their Variables."""

from __future__ import annotations

import jax
import jax.core

from .._compat import is_of_current_trace
from .._typing import PyTree
from ..core import Node, arrays_below
from ..errors import TraceContextError, message
from ..runtime import unrecorded


def refuse_traced(out: PyTree) -> None:
    """Raise where a returned Node keeps an array of the trace in a plain attribute.

    The values of Variables leave a trace as results. Everything else of a Node is its
    structure, in which an array of the trace would outlive it.

    Raises:
        TraceContextError: naming the attributes.
    """
    leaves = jax.tree.leaves(out, is_leaf=lambda part: isinstance(part, Node))
    with unrecorded():
        places = [
            f"{type(node).__name__}.{path}"
            for node in leaves
            if isinstance(node, Node)
            for path in arrays_below(node, _is_traced)
        ]
    if places:
        raise TraceContextError(
            message(
                "A Node that is returned from a transform keeps arrays of it in plain "
                "attributes:",
                places,
                "keep them in a `bo.Variable`, whose value leaves the transform.",
            )
        )


def _is_traced(value: PyTree) -> bool:
    return isinstance(value, jax.core.Tracer) and is_of_current_trace(value)
