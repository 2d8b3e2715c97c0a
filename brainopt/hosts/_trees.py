# SPDX-License-Identifier: Apache-2.0
"""Models that are pytrees: equinox modules, the parameters of haiku and jaxley, dicts.

Such a model never changes, so its arrays become Variables of our own, and the model
with their values is built whenever it is asked for.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_key_array
from .._typing import Foreign, Model
from ..core import Found, TrainVar, Variable, tree_paths
from ..errors import HostError, message


class Tree:
    """A pytree whose arrays are Variables.

    Args:
        model: the pytree.

    Attributes:
        found: the Variables by path.
    """

    def __init__(self, model: Model):
        self._structure = jax.tree.structure(model)
        self._leaves: list[Any] = []
        self.found = Found()
        for path, leaf in tree_paths(model, lambda x: False):
            # Functions, sizes and strings stay in the tree as they are.
            if _is_array(leaf):
                leaf = self.found[path] = _variable(leaf, path)
            self._leaves.append(leaf)
        if not self.found:
            raise HostError(
                message(
                    f"There is no array in this {type(model).__name__} to attach to.",
                    help="import its framework first if it is a model of one; of a "
                    "jaxley cell attach `cell.get_parameters()`, which holds what "
                    "`cell.make_trainable` chose; write numbers as arrays: "
                    "jnp.asarray(1.0).",
                )
            )

    def build(self) -> Any:
        """Return the model with the current values."""
        values = [
            leaf.value if isinstance(leaf, Variable) else leaf for leaf in self._leaves
        ]
        return jax.tree.unflatten(self._structure, values)


def _is_array(leaf: Foreign) -> bool:
    numbers = isinstance(leaf, np.ndarray | np.generic) and (
        jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool
    )
    return numbers or isinstance(leaf, jax.Array)


def _variable(leaf: Foreign, path: str) -> Variable:
    # Integers and keys are state; only numbers with a gradient are trained.
    trained = not is_key_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    return (TrainVar if trained else Variable)(leaf, name=path)
