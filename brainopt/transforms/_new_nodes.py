# SPDX-License-Identifier: Apache-2.0
"""Nodes that `vmap` makes over an axis that is divided over devices.

JAX leaves what depends on the mapped argument divided as that is. What does not, as a
bias of zeros, would stand whole on one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from .. import runtime
from ..core import Node, move_each


def place_new_nodes(out: Any, mapped: Sequence[tuple[Any, int]]) -> None:
    """Divide the Variables of new Nodes over their lanes as the arguments are.

    Args:
        out: the result of an eager `vmap` along axis 0, which may hold Nodes.
        mapped: the mapped arguments, each with its axis.
    """
    nodes = [
        node
        for node in jax.tree.leaves(out, is_leaf=lambda part: isinstance(part, Node))
        if isinstance(node, Node)
    ]
    place = _lanes(mapped) if nodes else None
    if place is None:
        return
    variables, places = [], []
    for variable in {v: None for n in nodes for v in n.vars().unique().values()}:
        value = runtime.read(variable)
        leaves = jax.tree.leaves(value)
        if any(runtime.place_of(leaf) is None and leaf.ndim for leaf in leaves):
            variables.append(variable)
            places.append(
                jax.tree.map(lambda leaf: runtime.place_of(leaf) or place, value)
            )
    move_each(variables, places)


def _lanes(mapped: Sequence[tuple[Any, int]]) -> NamedSharding | None:
    for leaf, axis in mapped:
        place = runtime.place_of(leaf)
        spec = () if place is None else place.spec
        axis %= max(leaf.ndim, 1) if place is not None else 1
        if place is not None and axis < len(spec) and spec[axis] is not None:
            return NamedSharding(place.mesh, PartitionSpec(spec[axis]))
    return None
