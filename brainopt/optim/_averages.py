# SPDX-License-Identifier: Apache-2.0
"""Weights to evaluate with that are not the weights being trained."""

from __future__ import annotations

import abc
from typing import Any

import jax

from .. import runtime
from ..core import Variable
from ._parameters import TrainedVariables
from ._rollback import Snapshot
from .engine._tree import named


class Swapped:
    """A block in which some Variables hold other values.

    At its end they hold what they held before, whatever was written in between.
    """

    def __init__(self, values: dict[Variable, Any]):
        self._values = values

    def __enter__(self) -> None:
        self._snapshot = Snapshot(self._values)
        runtime.commit(list(self._values), list(self._values.values()))

    def __exit__(self, *_) -> None:
        self._snapshot.restore()


class Averaged(abc.ABC):
    """Mixin of classes that keep averages of the variables they train."""

    _trained: TrainedVariables

    @abc.abstractmethod
    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}`` of each leaf, in the dtype of computation."""

    def swapped(self) -> Swapped:
        """Return a context in which the variables hold their averages.

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
        return Swapped(values)
