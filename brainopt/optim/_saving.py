# SPDX-License-Identifier: Apache-2.0
"""What checkpoints keep of an optimizer besides its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import join
from ._freezing import count_missed
from ._hyperparameters import HyperparamVector


def prepare_load(self: Any, state: dict[str, Any], path: str) -> None:
    """Make a state from before or after a missed step fit; see `Node.foresee`."""
    for name, slots in self.slots.items():
        key = join(path, "slots", name, "missed_steps")
        others = [join(path, "slots", name, slot) for slot in slots]
        if key in state:
            count_missed(self, name)
            continue
        whole = [join(path, "step"), *(other for other in others if other != key)]
        if "missed_steps" in slots and all(other in state for other in whole):
            state[key] = jnp.zeros((), jnp.int32)


def meta(self: Any) -> dict[str, Any]:
    """Return class, settings that are fixed, and kinds of the schedules.

    Dtypes, functions and classes stand there by name.
    """
    return {
        "class": type(self).__name__,
        "options": {k: _plain(v) for k, v in self.groups[0].options.items()},
        "numbers": list(self.groups[0].numbers.names),
        "schedules": [type(group.schedule).__name__ for group in self.groups],
        "precision": self.precision,
        "frozen": list(self.frozen),
    }


def notes(self: Any, state: Mapping[str, Any]) -> dict[str, float]:
    """Return the hyperparameters in a state dict of it by name, to be inspected."""
    found: dict[str, float] = {}
    for path, variable in self.vars().items():
        if isinstance(variable, HyperparamVector) and path in state:
            values = map(str, np.asarray(state[path]))  # shortest, as 0.001
            prefix = path.removesuffix("numbers")
            pairs = zip(variable.names, values, strict=False)
            found |= {f"{prefix}{name}": float(text) for name, text in pairs}
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
