# SPDX-License-Identifier: Apache-2.0
"""The states of several objects, read at one instant."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ...errors import CheckpointError, message
from ._equality import equal
from ._protocol import Stateful

_ATTEMPTS = 1000


def read_states(nodes: Sequence[Stateful]) -> list[Mapping[str, Any]]:
    """Return the state of each object, all of them from one instant.

    Raises:
        CheckpointError: the states change faster than they can be read.
    """
    # By identity: an object that is in the tree twice is read once, and both places get
    # the same state.
    once: dict[int, Any] = {id(node): node for node in nodes}
    if nodes and all(hasattr(node, "_state_dict_with") for node in once.values()):
        first, *others = once.values()
        states = dict(zip(once, first._state_dict_with(*others), strict=True))
        return [states[id(node)] for node in nodes]
    # Two readings that hold the very same arrays prove that no step was committed
    # between the end of the first and the start of the second: one instant for all.
    first = {key: node.state_dict() for key, node in once.items()}
    for _ in range(_ATTEMPTS):
        second = {key: node.state_dict() for key, node in once.items()}
        if all(_same(first[key], second[key]) for key in once):
            return [second[id(node)] for node in nodes]
        first = second
    raise CheckpointError(
        message(
            "The state changes faster than it can be read.",
            help="save from the thread that trains, and let `state_dict` return the "
            "arrays that the object holds, not copies.",
        )
    )


def _same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two readings hold the same arrays; those of JAX count by identity."""
    return len(one) == len(two) and all(
        name in two
        and (
            two[name] is value
            or (not _is_jax(value, two[name]) and equal(value, two[name]))
        )
        for name, value in one.items()
    )


def _is_jax(*values: Any) -> bool:
    return any(isinstance(value, jax.Array) for value in values)
