# SPDX-License-Identifier: Apache-2.0
"""Numbers that differ where an optimizer takes the place of one of the same name."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator
from typing import Any

from ..._warnings import warn_user
from ...core import ForeignVariable
from ...errors import HostWarning, message

# What the programs of brainpy 2.8 and braintools 0.3 compute otherwise by default.
_EPSILON = (
    "dialect",
    "brainpy",
    "epsilon is added to the root of the uncorrected second moment, here to that of "
    "the corrected one",
)
_OTHERS: dict[str, dict[str, tuple[str, Any, str]]] = {
    "brainpy": {"Adam": _EPSILON, "AdamW": _EPSILON},
    "braintools": {
        "Adagrad": ("epsilon", 1e-10, "epsilon is 1e-10, here 1e-6"),
        "Adadelta": ("rho", 0.9, "rho is 0.9, here 0.95"),
        "SM3": ("momentum", 0.9, "momentum is 0.9, here 0"),
    },
}
_DECAYED = "SGD Momentum MomentumNesterov Adagrad Adadelta RMSProp Adam".split()
_told: set[tuple[str, ...]] = set()


def warn_of_swap(optimizer: Any) -> None:
    """Warn once, of each class, of numbers that differ from those of a framework.

    Only where the variables are those of the framework, and no argument says which
    numbers are meant.
    """
    framework, name = _framework_of(optimizer), type(optimizer).__name__
    given = vars(optimizer).get("_given")
    if framework is None or given is None:
        return
    lines = [*_differences(given, framework, name), *_clocks(optimizer.lr, framework)]
    told = (framework, name, *lines)
    if not lines or told in _told:
        return
    _told.add(told)
    warn_user(
        message(
            f"The {name} of {framework} computes other numbers than this one:",
            lines,
            "bo.optim.like(optimizer) makes the equal of one that exists.",
        ),
        HostWarning,
    )


def _framework_of(optimizer: Any) -> str | None:
    for variable in optimizer._trained.variables.values():
        if isinstance(variable, ForeignVariable):
            root = type(variable.owner).__module__.partition(".")[0]
            name = {"brainpy": "brainpy", "brainstate": "braintools"}.get(root)
            return name if name in sys.modules else None
    return None


def _clocks(schedule: Any, framework: str) -> Iterator[str]:
    """Yield what differs if a schedule of that name counts something else there."""
    kind = type(schedule).__name__
    theirs = getattr(getattr(sys.modules[framework], "optim", None), kind, None)
    if framework != "braintools" or theirs is None or schedule.clock != "step":
        return
    # A clock that the class does not have by default was chosen by the user.
    if type(schedule)._declared.fields["clock"].default == "step":
        yield (
            f"its {kind} stays at the first rate until its step() is called, here it "
            "counts the updates; clock='epoch' gives the same, by step_epoch()"
        )


def _differences(given: Container[str], framework: str, name: str) -> Iterator[str]:
    if (other := _OTHERS[framework].get(name)) is not None:
        argument, theirs, text = other
        if argument not in given:
            yield f"{text}; {argument}={theirs!r} gives the same"
    if framework == "brainpy" and name in _DECAYED and "weight_decay" in given:
        same = "weight_decay=decay / lr gives the same for a constant rate"
        if name == "Adam":
            same = "AdamW(decay_by='none', dialect='brainpy') gives the same"
        elif name != "SGD":
            same = "no argument gives the same"
        yield f"weight_decay shrinks the parameter, here it is an L2 term; {same}"
