# SPDX-License-Identifier: Apache-2.0
"""The state of an optimizer divided over devices, or kept in host memory."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .. import runtime
from ..core import Node, move_each
from ..errors import ShardingError, message
from ._check import check_before
from ._rules import AxisNames, divided, unknown

Offload: TypeAlias = Literal["pinned_host", "unpinned_host"] | None
"""Memories for the state of an optimizer; None: that of the device."""

_MEMORIES = (None, "pinned_host", "unpinned_host")


def zero(
    opt: Any,
    mesh: Mesh | None = None,
    axis: AxisNames = "data",
    *,
    offload: Offload = None,
    min_size: int = 0,
    timeout: float = 600.0,
) -> dict[str, str]:
    """Divide what an optimizer keeps over the devices of a mesh; weights stay as is.

    Each array of its state (moments, sums of micro-batches, full copies of narrow
    weights, averages) is divided along the largest dimension that is free and divides,
    beside what divides the weights already. Counts and settings are whole everywhere.
    The numbers of a step are those of one device, up to the order of sums.

    Args:
        opt: an optimizer that has its variables.
        mesh: default: that of the variables it trains; without one, and for ``offload``
            alone, their device. Those that stand on no mesh move to this one, whole.
        axis: an axis of the mesh, or several together; None divides nothing, for
            ``offload`` alone.
        offload: ``"pinned_host"`` or ``"unpinned_host"`` keeps the state in host
            memory, and moves it to the device and back at each step.
        min_size: number of elements, in [0, inf), from which on an array is divided.
        timeout: seconds, in (0, inf), that a process waits for the others, where the
            mesh spans processes.

    Returns:
        Why each array that was to be divided has stayed whole, by path.

    Raises:
        ShardingError: there is no mesh, or it has no such axis; nothing has moved.
        DistributedError: values differ between processes (see `check`), or a process
            did not come in time; nothing has moved.

    Example:
        >>> import brainopt as bo
        >>> import jax
        >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        >>> weights = {"w": bo.TrainVar((4, 2))}
        >>> opt = bo.optim.AdamW(1e-3, weights)
        >>> bo.sharding.zero(opt, mesh)
        {}
        >>> tuple(opt.slots["w"]["m"].value.sharding.spec)
        ('data', None)

    Source: Rajbhandari et al. 2020, ZeRO: Memory Optimizations Toward Training Trillion
    Parameter Models, stage 1.
    """
    trained = list(opt.vars_to_train.values())
    mesh = mesh or _mesh_of(trained, axis)
    problems = [f"the mesh has no axis {name!r}" for name in unknown(mesh, axis)]
    if offload not in _MEMORIES:
        problems.append(f"offload={offload!r} is no memory of a host")
    if problems:
        fact = "The state of the optimizer cannot be divided so:"
        help = "offload='pinned_host' or 'unpinned_host'." if offload else ""
        raise ShardingError(message(fact, problems, help))
    # By identity, since ``==`` of Variables compares their elements.
    own = {
        path: variable
        for path, variable in Node.vars(opt).unique().items()
        if not any(variable is other for other in trained)
    }
    # A weight on one device and its moments on several could not meet in one step.
    unplaced = {
        path: variable
        for path, variable in opt.vars_to_train.items()
        if not runtime.has_place(_places(variable))
    }
    whole: dict[str, str] = {}
    goals: list[Any] = [_whole_on(mesh, v) for v in unplaced.values()]
    for path, variable in own.items():
        goals.append(_goals(path, variable, mesh, axis, offload, min_size, whole))
    moved = {**unplaced, **{f"the optimizer: {path}": v for path, v in own.items()}}
    check_before("bo.sharding.zero", moved, goals, timeout)
    move_each(list(moved.values()), goals)
    return whole


def _goals(path, variable, mesh, axis, offload, min_size, whole) -> Any:
    def goal(value: jax.Array) -> NamedSharding:
        if variable._whole or value.ndim == 0:
            return NamedSharding(mesh, PartitionSpec())
        there = runtime.place_of(value)
        spec = PartitionSpec()
        # Moments were made beside their weights: what divides these stays, and one more
        # dimension is divided.
        if there is not None and there.mesh == mesh:
            spec = there.spec
        if axis is not None:
            spec, why = divided(value.shape, spec, mesh, axis, min_size)
            whole.update({path: why} if why else {})
        return NamedSharding(mesh, spec, memory_kind=offload)

    return jax.tree.map(goal, runtime.read(variable))


def _whole_on(mesh: Mesh, variable: Any) -> Any:
    place = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda _: place, runtime.read(variable))


def _places(variable: Any) -> Any:
    return runtime.shardings([runtime.read(variable)])


def _mesh_of(variables: list[Any], axis: AxisNames) -> Mesh:
    for variable in variables:
        for place in jax.tree.leaves(_places(variable)):
            return place.mesh
    mesh = jax.sharding.get_mesh()
    if mesh.empty and axis is None and variables:
        values = jax.tree.leaves(runtime.read(variables[0]))
        return Mesh(np.array(list(values[0].devices())), ("device",))
    if mesh.empty:
        raise ShardingError(
            message(
                "There is no mesh to divide the state of the optimizer over.",
                help="move the model to a mesh first, with `bo.sharding.shard`.",
            )
        )
    return mesh
