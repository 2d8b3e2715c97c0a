# SPDX-License-Identifier: Apache-2.0
"""Attaching: one report of what can be trained and saved in a foreign model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import TrainVar, VarCollector, _state
from ..core._host import Found, find, load_entry_points


class Attached(VarCollector):
    """The Variables of a foreign model by path; what `attach` returns.

    It is a collector like ``node.vars()``, an optimizer trains its `TrainVar`s, and a
    checkpoint saves and restores it like a Node.

    Attributes:
        model: the model it was made from.
        unseen: trainable values that the framework itself does not collect, by path.
    """

    def __init__(self, model: Any, found: Found):
        super().__init__(found, found.paths)
        self.model = model
        self.unseen = VarCollector(found.unseen)

    def _like(self, items: Any) -> Any:
        return VarCollector(items, self.paths)

    def to_train(self) -> VarCollector:
        """Return the Variables that an optimizer trains."""
        return self.subset(TrainVar)

    train_vars = to_train

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each Variable, as its framework calls it."""
        return {
            path: type(getattr(variable, "owner", variable)).__name__
            for path, variable in self.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return ``{path: array}``, all values from one instant."""
        return _state.state_dict(dict(self))

    def checkpoint_meta(self) -> dict[str, Any]:
        """Return the class of the model."""
        return {"class": type(self.model).__name__}

    def stage_state_dict(
        self, state: Mapping[str, Any], *, strict: bool = True, cast: bool = False
    ) -> _state.Staged:
        """Compare a state with the model, and change nothing."""
        return _state.stage(dict(self), state, cast=cast)

    def __repr__(self) -> str:
        kind, trained = type(self.model).__name__, len(self.to_train())
        lines = [f"{kind}: {len(self)} Variables, {trained} of them trained"]
        lines += [f"  {path}: {kind}" for path, kind in self.kinds.items()]
        lines += [f"  {path}: not collected by the framework" for path in self.unseen]
        return "\n".join(lines)


def attach(model: Any) -> Attached:
    """Return the Variables of a model that another framework made."""
    found = find(model)
    if found is None:
        load_entry_points()
        found = find(model)
    return Attached(model, found)
