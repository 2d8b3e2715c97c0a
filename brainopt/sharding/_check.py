# SPDX-License-Identifier: Apache-2.0
"""Comparison of the models of all processes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from .. import runtime
from .._typing import Model, PyTree
from ..core import Node, VarCollector, entries, join
from ..distributed import compare, spans
from ..runtime import Cell


def check(nodes: Model, *, timeout: float = 600.0) -> None:
    """Compare the values that are to be equal in every process.

    JAX takes it as a promise: where two processes build a model from different seeds,
    or give a step other rows than `batch` does, they train on side by side, and nothing
    is said. Compared are the parts of values that several processes have: what is
    replicated, and what is on no mesh. Every process calls it. With one process it
    returns at once.

    `shard`, `zero` and the first save of a sharded `Manager` do so by themselves where
    a mesh spans processes.

    Args:
        nodes: a Node, an attached model or a collector; or a dict of these and of
            arrays by name.
        timeout: seconds, in (0, inf), that a process waits for the others.

    Raises:
        DistributedError: listing values that differ, by path and process; or a process
            did not come in time, which it names.

    Example:
        >>> import brainopt as bo
        >>> bo.sharding.check({"w": bo.TrainVar((4, 2))})
    """
    if jax.process_count() > 1:
        compare("bo.sharding.check", dict(_values("", nodes)), timeout)


def check_before(
    what: str, variables: Mapping[str, Cell], places: PyTree, timeout: float
) -> None:
    """Compare Variables before they move to places, if these span processes."""
    # A mesh within one process concerns nobody else, and the others would not come.
    if jax.process_count() > 1 and any(map(spans, jax.tree.leaves(places))):
        values = [item for path, v in variables.items() for item in _values(path, v)]
        compare(what, dict(values), timeout)


def _values(path: str, part: Any) -> list[tuple[str, Any]]:
    if isinstance(part, Node):
        part = part.vars()
    if isinstance(part, VarCollector):
        part = part.unique()
    if isinstance(part, Cell):
        value = runtime.read(part)
        return [(join(path, tail), leaf) for tail, leaf in entries(value)]
    if isinstance(part, Mapping):
        inner = [_values(join(path, str(key)), child) for key, child in part.items()]
        return [item for items in inner for item in items]
    return [(path, part)]
