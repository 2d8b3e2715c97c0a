# SPDX-License-Identifier: Apache-2.0
"""Mistakes that no error can name, since each call by itself is right."""

from __future__ import annotations

import collections
import weakref
from typing import Any

from .._typing import Model
from .._warnings import warn_user
from ..core import Node, collect_vars
from ..errors import TrainingWarning, message

_turns: collections.deque[weakref.ref] = collections.deque(maxlen=8)
"""The optimizers that took steps, the latest last; steps in a row are one entry."""


def warn_of_nothing(optimizer: Any, train_vars: Model) -> None:
    """Warn of an optimizer of a Node in which there is nothing to train."""
    if optimizer._trained.variables or not isinstance(train_vars, Node):
        return
    count = len(collect_vars(train_vars).unique())
    if not count:
        return  # what is added later is registered later
    warn_user(
        message(
            f"This {type(optimizer).__name__} trains nothing: none of the {count} "
            f"Variables of this {type(train_vars).__name__} is a TrainVar.",
            help="make the weights `bo.TrainVar`, or give the Variables themselves.",
        ),
        TrainingWarning,
    )


def note_turn(optimizer: Any) -> None:
    """Warn once two optimizers change the same variables in turn.

    One after the other is no mistake: the first may only be still in memory.
    """
    # Back to its own last turn: whoever stepped since then steps in turn with it.
    turns = [ref() for ref in _turns]
    if turns and turns[-1] is optimizer:
        return
    _turns.append(weakref.ref(optimizer))
    own = {id(v): path for path, v in optimizer._trained.variables.items()}
    shared: dict[str, str] = {}
    for other in reversed(turns):
        if other is optimizer:
            break
        for variable in [] if other is None else other._trained.variables.values():
            if id(variable) in own:
                shared[own[id(variable)]] = type(other).__name__
    else:
        return  # it is its first turn
    if shared:
        warn_user(
            message(
                f"Two optimizers change the same variables in turn, this "
                f"{type(optimizer).__name__} and another:",
                [f"{path}: {name}" for path, name in shared.items()],
                "give each its own variables, or one optimizer rules for groups: "
                "`groups=[{'match': 'layers.0.*', 'lr': 1e-4}]`.",
            ),
            TrainingWarning,
        )
