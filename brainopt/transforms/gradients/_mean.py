# SPDX-License-Identifier: Apache-2.0
"""A loss that differs between the devices of a mesh, on its way to gradients.

Inside `shard_map` each device has the loss of its own rows, and shared variables. JAX
gives the gradient of the sum of these losses, equal on all devices: it adds them up
itself. The idiom of the days of pmap, a mean of the gradients, changes nothing then,
and the step is too long by the number of devices; Adam hides it. To be averaged is the
loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax

from ..._compat import varying_axes
from ..._typing import PyTree
from ...errors import GradientError, message

_HELP = (
    "`bo.grad(…, mean_over={axes!r})`, or return `jax.lax.pmean(loss, {axes!r})`; "
    "where the sum is meant, `jax.lax.psum`."
)


def mean(value: PyTree, axes: Sequence[str]) -> Any:
    """Return the mean of a loss over axes of the mesh.

    Raises:
        GradientError: it does not differ along one of them.
    """
    # The mean of a value that is equal everywhere is that value, and the user would not
    # learn that the batch was never divided.
    lacking = [axis for axis in axes if axis not in varying_axes(value)]
    if lacking:
        raise GradientError(
            message(
                "The value is to be averaged, and does not differ between devices:",
                [f"mean_over={axis!r}" for axis in lacking],
                "divide the batch over this axis by `in_specs`, in a `bo.shard_map` "
                "with `check_vma=True`.",
            )
        )
    return jax.lax.pmean(value, tuple(axes)) if axes else value


def warn_of_sum(value: PyTree, variables: Sequence[Any]) -> None:
    """Warn where the gradients of shared values are sums over devices.

    Args:
        value: the loss.
        variables: the values it is differentiated by.
    """
    # What a value varies along and a variable does not is what JAX sums over: it adds
    # the gradients of all devices, as each of them used the same variable.
    axes = set(varying_axes(value))
    shared: set[str] = set().union(
        *(axes - varying_axes(leaf) for leaf in jax.tree.leaves(list(variables)))
    )
    if shared:
        names = sorted(shared)
        named = tuple(names) if len(names) > 1 else names[0]
        fact = (
            f"The loss differs between the devices along {', '.join(names)}, so the "
            "gradients of shared variables are sums over the devices; a mean of them "
            "changes nothing."
        )
        warnings.warn(message(fact, help=_HELP.format(axes=named)), stacklevel=2)
