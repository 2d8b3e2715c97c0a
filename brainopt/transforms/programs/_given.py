# SPDX-License-Identifier: Apache-2.0
"""Arguments of a step that several processes take together.

JAX takes an argument that lies in one process as equal in all of them. Where each
gives the rows that it has read, without `bo.sharding.batch`, their weights part, and
nothing is said. So before a step first runs for arguments of some shapes, the processes
compare what they gave.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ..._typing import PyTree
from ...core import describe
from ...distributed import compare, spans
from ._questions import call_key

_HELP = (
    "divide rows that each process has read by `bo.sharding.batch(mesh, axis, rows)`; "
    "what is no batch has to be the same in every process."
)


class Given:
    """The arguments that are compared before a program first runs for their shapes.

    Args:
        function: of the user.
        places: of the Variables that the program writes.

    Attributes:
        together: whether several processes run the program.
    """

    def __init__(self, function: Callable, places: PyTree):
        self._function = function
        self._compared: set[Any] = set()
        self.together = any(map(spans, jax.tree.leaves(places)))

    def compare(self, args: tuple, kwargs: dict) -> None:
        """Meet the other processes; return where all gave the same.

        Raises:
            DistributedError: arguments differ, by name; or a process did not come.
        """
        if not self.together or (key := call_key((args, kwargs))) in self._compared:
            return
        name = f"the arguments of {describe(self._function)}"
        compare(name, dict(self._own(args, kwargs)), help=_HELP)
        self._compared.add(key)

    def _own(self, args: tuple, kwargs: dict) -> Iterator[tuple[str, Any]]:
        try:
            named = inspect.signature(self._function).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):  # no signature, or arguments compiled in
            named = {"args": args, "kwargs": kwargs}
        for keys, leaf in jax.tree_util.tree_flatten_with_path(dict(named))[0]:
            # What spans processes is divided, or replicated by a promise of its own.
            if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
                yield jax.tree_util.keystr(keys, simple=True, separator="."), leaf
