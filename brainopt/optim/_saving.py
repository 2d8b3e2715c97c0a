# SPDX-License-Identifier: Apache-2.0
"""Metadata that checkpoints keep of an optimizer besides its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._typing import PyTree, StateDict
from ..core import join
from ._ages import MISSED, ages_of, keep_ages
from ._aliases import all_names, by_first_names
from ._cautions import look_at
from ._swapping import refuse_load, refuse_state
from .engine._tree import named
from .hyperparameters._numbers import HyperparamVector
from .settings._groups import DEFAULT


def prepare_load(
    self: Any,
    state: dict[str, PyTree],
    path: str,
    context: Mapping[str, Any],
    staged: Any,
) -> None:
    """Make a state fit that has other variables; see `Node._prepare_load`."""
    refuse_load(type(self).__name__, self._trained)
    own = (key for each in ages_of(self, path) for key in (*each.keys, each.key))
    shared = (join(path, "slots", name) for name in self.slots.get("", ()))
    whole = (join(path, "slots", n, k) for n, held in self.slots.items() for k in held)
    by_first_names(
        self._trained.aliases, join(path, "slots"), chain(own, shared, whole), state
    )
    step = join(path, "step"), self.step.value
    keep_ages(ages_of(self, path), step, state, context, staged.undo)


def context(self: Any) -> list[str]:
    """Return the inputs of the ages of variables; see `Node._state_context`."""
    return ["step", *(join("slots", name, MISSED) for name in self.slots)]


def prepare_save(self: Any) -> None:
    """Refuse a state that its variables do not fit; see `Node._prepare_save`."""
    refuse_state(type(self).__name__, self._trained)
    look_at(self)


def meta(self: Any) -> dict[str, Any]:
    """Return class, settings that are fixed, and kinds of the schedules.

    Dtypes, functions and classes are given by name; the settings of a group are beside
    its numbers.
    """
    aliases, members = self._trained.aliases, _members(self)
    groups = {
        name: {**_group_meta(group), "members": all_names(aliases, members[name])}
        for name, group in self.groups.items()
    }
    del groups[DEFAULT]["members"]  # all others
    return {
        "class": type(self).__name__,
        "groups": groups,
        "precision": self.precision,
        "maximize": self.maximize,
        "nonfinite": self.nonfinite,
        "mask": None if self.mask is None else all_names(aliases, _masked(self)),
        "frozen": all_names(aliases, self.frozen),
    }


def _masked(optimizer: Any) -> list[str]:
    """Return the paths that the mask chooses."""
    leaves = named(optimizer._trained.values())
    return [path for path, leaf in leaves if optimizer.mask(path, leaf)]


def _group_meta(group: Any) -> dict[str, Any]:
    signs = {} if group.sign is None else {"sign": np.asarray(group.sign).tolist()}
    found = {"options": {k: _plain(v) for k, v in group.options.items()}, **signs}
    if group.schedule is not None:
        kind = type(group.schedule).__name__
        found["schedule"] = f"{kind}, scaled" if group.follows else kind
    if group.constraint is not None:
        found["constraint"] = _plain(group.constraint)
    return found


def _members(optimizer: Any) -> dict[str, list[str]]:
    """Return the paths of each group."""
    found: dict[str, list[str]] = {name: [] for name in optimizer.groups}
    names = list(found)
    for path, leaf in named(optimizer._trained.values()):
        found[names[optimizer._settings.index(path, leaf)]].append(path)
    return found


def notes(self: Any, state: StateDict) -> dict[str, float]:
    """Return the hyperparameters in a state dict of it, to be inspected."""
    found = {}
    for path, variable in self.vars().items():
        if isinstance(variable, HyperparamVector):
            keys = {name: join(path, name) for name in variable.names}
            prefix = path.removesuffix("numbers")
            found |= {
                f"{prefix}{n}": float(state[k]) for n, k in keys.items() if k in state
            }
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    try:
        return jnp.dtype(value).name
    except TypeError:
        return getattr(value, "__name__", type(value).__name__)
