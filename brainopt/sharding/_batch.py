# SPDX-License-Identifier: Apache-2.0
"""Batches divided over a mesh, from the rows that each process has."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._typing import PyTree
from ..errors import ShardingError, message
from ._rules import AxisNames, parts, unknown


def batch(mesh: Mesh, axis: AxisNames, rows: PyTree) -> Any:
    """Return arrays whose first dimension is divided over an axis of a mesh.

    The same line serves one process and many: each gives the rows that it has read,
    equally many, and together they are one batch in the order of the processes.

    Args:
        mesh: the mesh of the model.
        axis: an axis of the mesh, or several together.
        rows: a pytree of arrays of shape ``(rows, ...)``, NumPy or jax.

    Raises:
        ShardingError: the mesh has no such axis, or rows do not divide; by path.

    Example:
        >>> import brainopt as bo
        >>> import jax, numpy as np
        >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        >>> bo.sharding.batch(mesh, "data", np.ones((4, 2))).shape
        (4, 2)
    """
    problems = [f"the mesh has no axis {name!r}" for name in unknown(mesh, axis)]
    leaves, tree = jax.tree_util.tree_flatten_with_path(rows)
    processes = len({device.process_index for device in mesh.devices.flat})
    for keys, leaf in leaves if not problems else ():
        # Each process gives its rows, and all of them together have to divide.
        count = parts(mesh, axis)
        if not np.ndim(leaf) or np.shape(leaf)[0] * processes % count:
            problems.append(
                f"{jax.tree_util.keystr(keys) or 'rows'}: shape {np.shape(leaf)} does "
                f"not divide by {count} along axis 0"
            )
    if problems:
        help = "give each process equally many rows, a multiple of its devices."
        raise ShardingError(message("This is no batch for the mesh:", problems, help))
    place = NamedSharding(mesh, PartitionSpec(axis))
    # A copy: on a CPU the array would share the memory of the caller.
    return tree.unflatten(
        jax.make_array_from_process_local_data(place, np.array(leaf))
        for _, leaf in leaves
    )
