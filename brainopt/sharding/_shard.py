# SPDX-License-Identifier: Apache-2.0
"""Variables divided over a mesh by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .. import runtime
from .._select import Where
from ..core import Node, VarCollector, entries, join, move_each
from ._check import check_before
from ._rules import AxisNames, Shaped, plan


def shard(
    node: Node | VarCollector,
    mesh: Mesh,
    rules: Mapping[Where, PartitionSpec] | None = None,
    *,
    axes: Mapping[str, AxisNames] | None = None,
    fsdp: AxisNames = None,
    min_size: int = 2**16,
    timeout: float = 600.0,
) -> dict[str, str]:
    """Divide the Variables of a model over the devices of a mesh, and keep them there.

    The first rule that chooses a Variable says how it is divided; where none does, the
    names of its axes do. ``fsdp`` then divides what is large once more. A Variable that
    none of these names, and every one with a bare mesh, is whole on each device.

    Shard the model first: an optimizer made afterwards has its moments beside the
    weights. `zero` divides the moments of a model that stays whole.

    Args:
        node: a Node, an attached model, or a collector of Variables.
        mesh: whose axes are Auto, or Explicit where the model reshards its weights.
        rules: choices by name (as in ``freeze`` and ``groups``) to PartitionSpecs.
        axes: the names of axes of Variables (``axis_names=``) to axes of the mesh.
        fsdp: an axis of the mesh, or several together: each Variable of ``min_size``
            or more is divided along the largest dimension that is free and divides.
        min_size: number of elements, in [0, inf).
        timeout: seconds, in (0, inf), that a process waits for the others, where the
            mesh spans processes.

    Returns:
        Why each Variable that ``fsdp`` was to divide has stayed whole, by path.

    Raises:
        ShardingError: listing each axis that the mesh lacks and each dimension that
            does not divide, by path; nothing has moved.
        PathError: a rule chooses no Variable; nothing has moved.
        DistributedError: values differ between processes (see `check`), or a process
            did not come in time; nothing has moved.

    Example:
        >>> import brainopt as bo
        >>> import jax
        >>> from jax.sharding import PartitionSpec as P
        >>> class Net(bo.Node):
        ...     def __init__(self):
        ...         self.W = bo.TrainVar((4, 2))
        ...         self.b = bo.TrainVar(2)
        >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        >>> net = Net()
        >>> bo.sharding.shard(net, mesh, {"W": P("data")})
        {}
        >>> tuple(net.W.value.sharding.spec)
        ('data',)

    Source: Rajbhandari et al. 2020, ZeRO, stage 3; Zhao et al. 2023, PyTorch FSDP.
    """
    named = (node.vars() if isinstance(node, Node) else node).unique()
    values = dict(zip(named, runtime.snapshot(list(named.values())), strict=True))
    leaves = {
        path: [(join(path, tail), leaf) for tail, leaf in entries(value)]
        for path, value in values.items()
    }
    # By leaf: the arrays of one Variable may have different shapes, so a rule may
    # choose one of them.
    shapes = {
        name: Shaped(leaf.shape, _names(named[path]))
        for path, found in leaves.items()
        for name, leaf in found
    }
    specs, whole = plan(shapes, mesh, rules, axes, fsdp, min_size)
    places = [
        jax.tree.structure(value).unflatten(
            NamedSharding(mesh, specs[name]) for name, _ in leaves[path]
        )
        for path, value in values.items()
    ]
    # The last step before anything moves: a move across processes takes for granted
    # that they hold equal values.
    check_before("bo.sharding.shard", named, places, timeout)
    move_each(list(named.values()), places)
    return whole


def _names(variable: Any) -> tuple[str, ...] | None:
    return getattr(variable, "axis_names", None)
