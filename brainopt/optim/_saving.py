# SPDX-License-Identifier: Apache-2.0
"""Metadata that checkpoints keep of an optimizer besides its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import join
from ._ages import MISSED, ages_of, keep_ages
from ._hyperparameters import HyperparamVector
from .engine._tree import named
from .settings._spec import label_of


def prepare_load(
    self: Any, state: dict[str, Any], path: str, context: Mapping[str, Any], staged: Any
) -> None:
    """Make a state fit that has other variables; see `Node._prepare_load`."""
    step = join(path, "step"), self.step.value
    keep_ages(ages_of(self, path), step, state, context, staged.undo)


def context(self: Any) -> list[str]:
    """Return the inputs of the ages of variables; see `Node._state_context`."""
    return ["step", *(join("slots", name, MISSED) for name in self.slots)]


def meta(self: Any) -> dict[str, Any]:
    """Return class, settings that are fixed, and kinds of the schedules.

    Dtypes, functions and classes are given by name.
    """
    return {
        "class": type(self).__name__,
        "options": {k: _plain(v) for k, v in self.groups[0].options.items()},
        "numbers": list(self.groups[0].numbers.names),
        "schedules": {
            name: type(group.schedule).__name__ for name, group in self.groups.items()
        },
        "groups": _members(self),
        "precision": self.precision,
        "maximize": self.maximize,
        "nonfinite": self.nonfinite,
        "mask": None if self.mask is None else label_of({"match": self.mask.choice}),
        "constraints": _constraints(self),
        "frozen": list(self.frozen),
    }


def _constraints(optimizer: Any) -> dict[str, Any]:
    """Return sign and constraint of each group that has one."""
    return {
        name: [
            None if group.sign is None else np.asarray(group.sign).tolist(),
            _plain(group.constraint),
        ]
        for name, group in optimizer.groups.items()
        if group.sign is not None or group.constraint is not None
    }


def _members(optimizer: Any) -> dict[str, list[str]]:
    """Return the paths of each group but the first, which has all others."""
    found: dict[str, list[str]] = {name: [] for name in optimizer.groups}
    names = list(found)
    for path, leaf in named(optimizer._trained.values()):
        found[names[optimizer._settings.index(path, leaf)]].append(path)
    del found[names[0]]
    return found


def notes(self: Any, state: Mapping[str, Any]) -> dict[str, float]:
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
