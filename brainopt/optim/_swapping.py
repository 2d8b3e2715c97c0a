# SPDX-License-Identifier: Apache-2.0
"""Variables that hold other values for the time of a block.

While they do, the state of an optimizer that trains them belongs to values which they
do not hold: neither a step nor a state dict of it would be right, and both are refused.
The revision below makes compiled steps find out.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.core

from .. import runtime
from .._warnings import warn_user
from ..core import Variable
from ..errors import GradientError, StateDictError, TrainingWarning, message
from ..runtime import Revision, depend_on, same
from ._parameters import TrainedVariables
from ._rollback import Snapshot
from .engine._tree import named

# Counted, since blocks may be nested, and in several threads.
_swapped: Counter[Variable] = Counter()
_revision = Revision()
# The state without a block has its number from the start: compiled steps go back to
# their programs when the last block is left.
_revision.note("swapped", ())


class Swapped:
    """A block in which some Variables hold other values.

    At its end they hold what they held before, whatever was written in between.

    Args:
        values: by Variable.
        guarded: the paths of the Variables, if steps and states of their optimizers are
            refused, and a write that is lost at the end is told.
    """

    def __init__(self, values: dict[Variable, Any], guarded: Sequence[str] = ()):
        self._values = values
        self._guarded = dict(zip(values, guarded, strict=False))

    def __enter__(self) -> None:
        self._snapshot = Snapshot(self._values)
        runtime.commit(list(self._values), list(self._values.values()))
        self._count(1)

    def __exit__(self, kind: Any, *_) -> None:
        self._count(-1)
        lost = [] if kind else [p for v, p in self._guarded.items() if self._lost(v)]
        self._snapshot.restore()
        if lost:
            fact = "What was written to these inside of swapped() is gone at its end:"
            help = "load or change the model outside of the block."
            warn_user(message(fact, lost, help), TrainingWarning)

    def _lost(self, variable: Variable) -> bool:
        values = [jax.tree.leaves(v) for v in (variable.value, self._values[variable])]
        if any(isinstance(leaf, jax.core.Tracer) for leaf in values[0] + values[1]):
            return False
        return not same(*values)

    def _count(self, change: int) -> None:
        if not self._guarded:
            return
        for variable in self._guarded:
            _swapped[variable] += change
            if not _swapped[variable]:
                del _swapped[variable]
        _revision.note("swapped", tuple(sorted(map(id, _swapped))))


def refuse_step(owner: str, trained: TrainedVariables) -> None:
    """Raise `GradientError` for a step of variables that hold other values."""
    depend_on(_revision)
    if found := _found(trained):
        raise GradientError(
            message(
                f"This {owner} cannot step variables that hold their averages:",
                found,
                "leave the block of swapped() first.",
            )
        )


def refuse_state(owner: str, trained: TrainedVariables) -> None:
    """Raise `StateDictError` for a state that belongs to other values."""
    if found := _found(trained):
        raise StateDictError(
            message(
                f"The state of this {owner} belongs to other values than its "
                "variables hold inside swapped():",
                found,
                "save the model alone here, or everything outside of the block.",
            )
        )


def refuse_load(owner: str, trained: TrainedVariables) -> None:
    """Raise `StateDictError` for a state that would be loaded beside other values."""
    if found := _found(trained):
        raise StateDictError(
            message(
                f"No state is loaded into this {owner} while its variables hold other "
                "values inside swapped():",
                found,
                "leave the block first: it puts the values from before back.",
            )
        )


def _found(trained: TrainedVariables) -> list[str]:
    if not _swapped:
        return []
    return [path for path, v in trained.variables.items() if v in _swapped]


class Averaged(abc.ABC):
    """Mixin of classes that keep averages of the variables they train."""

    _trained: TrainedVariables

    @abc.abstractmethod
    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}`` of each leaf, in the dtype of computation."""

    def swapped(self) -> Swapped:
        """Return a context in which the variables hold their averages.

        Inside, what trains them can take no step, and its state can be neither saved
        nor loaded; that of the model alone can be saved. What else is written to them
        is gone at the end of the block, with a warning.

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
        return Swapped(values, list(self._trained.variables))
