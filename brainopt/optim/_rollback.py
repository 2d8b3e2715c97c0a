# SPDX-License-Identifier: Apache-2.0
"""Going back: snapshots of a run, and steps on trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from .. import runtime
from ..core import Variable
from ..errors import StateDictError, message
from ._parameters import TrainedVariables
from .engine._tree import named


class Snapshot:
    """The values of some Variables at one instant.

    No copy is made: a compiled step that would reuse a buffer held here copies it.

    Args:
        variables: those whose values are kept.
        since: from the values by Variable to those of Variables that came later.
        set_back: set the Python settings of that instant, before the values.
    """

    def __init__(
        self,
        variables: Iterable[Variable],
        since: Callable[[dict[Variable, Any]], dict[Variable, Any]] | None = None,
        set_back: Sequence[Callable[[], None]] = (),
    ):
        self._variables = list(dict.fromkeys(variables))
        self._values = runtime.snapshot(self._variables)
        self._since = since
        self._set_back = set_back

    def holds(self, variable: Variable) -> bool:
        """Whether the value of ``variable`` is kept here."""
        return any(variable is one for one in self._variables)

    def restore(self) -> None:
        """Write the values back, all at once, where their Variables are now."""
        # Settings first: they bring back the slots that the values belong to. The
        # optimizer may have moved since, so values go where their Variables are now.
        for act in self._set_back:
            act()
        now = runtime.snapshot(self._variables)
        values = dict(zip(self._variables, map(_there, self._values, now), strict=True))
        if self._since is not None:
            values |= self._since(values)
        runtime.commit(list(values), list(values.values()))


def of_optimizer(snapshot: Any, step: Variable, owner: str) -> Snapshot:
    """Return ``snapshot``, if it is one of the optimizer that counts by ``step``.

    Args:
        snapshot: what was given as a snapshot.
        step: the count of the optimizer that is to go back.
        owner: its class, for errors.

    Raises:
        TypeError: it is no snapshot.
        StateDictError: it is one of another optimizer, whose Variables it would write.
    """
    if not isinstance(snapshot, Snapshot):
        raise TypeError(
            message(
                f"A {type(snapshot).__name__} is no snapshot.",
                help="give what `opt.snapshot()` returned; a state dict goes to "
                "`opt.load_state_dict`, a file to `bo.checkpoint.restore`.",
            )
        )
    if not snapshot.holds(step):
        raise StateDictError(
            message(
                f"This snapshot is of another optimizer than this {owner}, and holds "
                "the values of its Variables.",
                help="restore it there; to copy a state to another run, give "
                "`load_state_dict` the `state_dict()` of the model and of the "
                "optimizer.",
            )
        )
    return snapshot


def _there(value: Any, now: Any) -> Any:
    """Return ``value`` on the devices of ``now``."""
    try:
        return jax.tree.map(_moved, value, now)
    except ValueError:  # a value of another structure
        return value


def _moved(value: Any, now: Any) -> Any:
    for array in (value, now):
        if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
            return value
    if not now.committed or now.sharding == value.sharding:
        return value
    return runtime.put(value, now.sharding)


class Trial:
    """A block whose steps are undone at its end unless `commit` was called.

    An exception undoes them too.
    """

    def __init__(self, snapshot: Snapshot):
        self._snapshot = snapshot
        self._kept = False

    def commit(self) -> None:
        """Keep the steps of the block, those before and after this call."""
        self._kept = True

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, kind: Any, *_) -> None:
        # After an exception also what was committed goes: the block is one trial.
        if kind is not None or not self._kept:
            self._snapshot.restore()


def missed(
    slots: dict[str, dict[str, Variable]],
    trained: TrainedVariables,
    step: Variable,
    values: dict[Variable, Any],
) -> dict[Variable, Any]:
    """Return the counts of missed steps that a snapshot does not know yet.

    Args:
        slots: of the optimizer.
        trained: its variables.
        step: the updates done.
        values: of the snapshot.
    """
    found = {}
    for path, variable in trained.variables.items():
        for name, _ in named({path: variable.value}):
            count = slots[name].get("missed_steps")
            if count is None or count in values:
                continue
            # A variable that came later keeps its own number of steps, while the count
            # of all steps goes back by ``ahead``.
            ahead = step.value - values[step]
            known = variable in values
            found[count] = jnp.zeros_like(ahead) if known else count.value - ahead
    return found
