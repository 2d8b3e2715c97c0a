# SPDX-License-Identifier: Apache-2.0
"""Weights to evaluate with that are not the weights being trained."""

from __future__ import annotations

import abc
from typing import Any

import jax

from ._parameters import TrainedVariables
from ._swapping import Swapped
from .engine._tree import named


class Averaged(abc.ABC):
    """Mixin of classes that keep averages of the variables they train."""

    _trained: TrainedVariables

    @abc.abstractmethod
    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}`` of each leaf, in the dtype of computation."""

    def swapped(self) -> Swapped:
        """Return a context in which the variables hold their averages.

        Inside, what trains them can take no step, and its state cannot be saved; that
        of the model alone can.

        Example:
            >>> import brainopt as bo
            >>> w = bo.TrainVar([1.0])
            >>> ema = bo.optim.EMA(w, decay=0.9, warmup=False)
            >>> w.value = jnp.zeros(1)
            >>> ema.update()
            >>> with ema.swapped():
            ...     print(w.value.round(3).tolist())
            [0.9...]
            >>> w.value.tolist()
            [0.0]
        """
        # Averages are kept by leaf, in the dtype of computation; a Variable needs its
        # own structure and dtype back.
        averages = self.averages()
        values = {}
        for path, variable in self._trained.variables.items():
            held = variable.value
            leaves = [
                averages[name].astype(leaf.dtype) for name, leaf in named({path: held})
            ]
            values[variable] = jax.tree.unflatten(jax.tree.structure(held), leaves)
        return Swapped(values, is_guarded=True)
