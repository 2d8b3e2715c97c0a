# SPDX-License-Identifier: Apache-2.0
"""Mistakes that no error can name, since each call by itself is right."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import runtime
from .._compat import is_eager
from .._typing import Model
from .._warnings import warn_user
from ..core import Node, collect_vars, join
from ..errors import TrainingWarning, message
from ._models import models_of
from .engine._tree import named
from .settings._unmatched import warn_of_unmatched_rules

_MANY = 1000
"""The updates after which an epoch is over, or nobody counts epochs."""
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


def warn_of_coarse_mean(
    optimizer: Any, name: str, dtype: str, decay: str, hyper: Any
) -> None:
    """Warn once of a running mean that rounding keeps from falling.

    Args:
        optimizer: whose mean it is.
        name: of the mean.
        dtype: the name of the option that says how it is stored.
        decay: the name of its rate.
        hyper: the settings.
    """
    kind, rate = getattr(hyper, dtype), getattr(hyper, decay)
    if kind is None or isinstance(rate, Tracer) or dtype in _told_by(optimizer):
        return
    # Without a gradient x becomes βx, and x again where that is the nearest number.
    # Half the gap between numbers is the largest part of 1 + eps, and of that times 2ⁿ.
    eps = float(jnp.finfo(kind).eps)
    change, half = 1 - float(rate), eps / 2 / (1 + eps)
    if change > half:
        return
    _told_by(optimizer).add(dtype)
    owner, stored = type(optimizer).__name__, jnp.dtype(kind).name
    part = f"an update takes {change:.2g} of it, rounding gives back up to {half:.2g}"
    warn_user(
        message(
            f"{owner}: {name} in {stored} does not fall with {decay}={float(rate):g}:",
            [part],
            f"leave out {dtype}, or take a {decay} below {1 - half:.3g}.",
        ),
        TrainingWarning,
    )


def _told_by(optimizer: Any) -> set[str]:
    """Return the names of what an optimizer has warned of."""
    return vars(optimizer).setdefault("_told", set())


def count_call(optimizer: Any) -> None:
    """Look at an optimizer now and then, at calls of ``update``.

    A compiled step runs no Python, and is looked at between its runs.
    """
    told = _told_by(optimizer)
    if "rules" not in told:
        # With the first gradients, at the latest, all variables are there.
        told.add("rules")
        warn_of_unmatched_rules(optimizer, optimizer._trained.values())
    if not is_eager():
        if not runtime.created_in_frames([optimizer.step]):
            runtime.watch([(weakref.ref(optimizer), look_at)])
        return
    calls = vars(optimizer)["_calls"] = vars(optimizer).get("_calls", 0) + 1
    if calls > 1 and calls == runtime.next_look(calls - 1):
        look_at(optimizer)


def look_at(optimizer: Any) -> None:
    """Warn once of weights that are not finite, and of epochs that nobody counts."""
    if not is_eager() or isinstance(optimizer.step.value, Tracer):
        return
    models_of(optimizer).compare_if_changed(optimizer, seldom=True)
    told = _told_by(optimizer)
    # An ensemble has a count for each member.
    counted = optimizer.step.value
    if "epochs" not in told and not counted.ndim and int(counted) >= _MANY:
        _warn_of_epochs(optimizer, told)
    if "weights" not in told and optimizer.nonfinite == "propagate":
        _warn_of_weights(optimizer, told)


def _warn_of_epochs(optimizer: Any, told: set[str]) -> None:
    for group in optimizer.groups.values():
        schedule = group.schedule
        if schedule is None or schedule.clock != "epoch" or "epochs" in told:
            continue
        if int(schedule.last_epoch.value) >= 0:
            continue
        told.add("epochs")
        updates = int(optimizer.step.value)
        warn_user(
            message(
                f"The {type(schedule).__name__} of this {type(optimizer).__name__} "
                f"counts epochs, and step_epoch() was not called in {updates:,} "
                f"updates: the rate is still {float(schedule):g}.",
                help="call opt.lr.step_epoch() after each epoch, or give clock='step' "
                "to count updates.",
            ),
            TrainingWarning,
        )


def _warn_of_weights(optimizer: Any, told: set[str]) -> None:
    bad = [
        f"{path}: {count:,} of {leaf.size:,} numbers"
        for path, leaf in _held_by_path(optimizer)
        if (count := _count_bad(leaf))
    ]
    if not bad:
        return
    told.add("weights")
    warn_user(
        message(
            f"Weights or moments of this {type(optimizer).__name__} are not finite:",
            bad,
            "nonfinite='skip' leaves such steps out, 'raise' stops at the first; "
            "`bo.debug.find_nan(step, ...)` finds the operation.",
        ),
        TrainingWarning,
    )


def _held_by_path(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each weight, and of each slot that is of one."""
    weights = dict(named(optimizer._trained.values()))
    yield from weights.items()
    # What all share may begin with an infinity, as the least loss of a search does.
    of_one = optimizer.owners(weights) if hasattr(optimizer, "owners") else {}
    for path, slots in optimizer.slots.items():
        for name, variable in slots.items():
            if path or name in of_one:
                yield join("slots", join(path, name)), variable.value


def _count_bad(leaf: Any) -> int:
    """Count the numbers that are not finite, in what this process holds of an array."""
    if isinstance(leaf, Tracer):
        return 0
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return 0
    # Part by part: nothing is gathered, and no other process is asked.
    if len(leaf.devices()) > 1:
        parts = (s.data for s in leaf.addressable_shards if s.replica_id == 0)
        return sum(map(_count_bad, parts))
    # Where the memory of the device is that of numpy, nothing is copied or compiled.
    on_cpu = all(device.platform == "cpu" for device in leaf.devices())
    isfinite = np.isfinite if on_cpu else jnp.isfinite
    return int((~isfinite(np.asarray(leaf) if on_cpu else leaf)).sum())


def note_turn(optimizer: Any) -> None:
    """Warn once two optimizers change the same variables in turn.

    One after the other is no mistake: the first may only be still in memory.
    """
    # Back to its own last turn: whoever stepped since then steps in turn with it.
    turns = [ref() for ref in list(_turns)]  # other threads add to it
    if turns and turns[-1] is optimizer:
        return
    _turns.append(weakref.ref(optimizer))
    own = {id(v): path for path, v in optimizer._trained.variables.items()}
    shared: dict[str, str] = {}
    told = [_told_by(optimizer)]
    for other in reversed(turns):
        if other is optimizer:
            break
        for variable in [] if other is None else other._trained.variables.values():
            if id(variable) in own:
                shared[own[id(variable)]] = type(other).__name__
                told.append(_told_by(other))
    else:
        return  # it is its first turn
    # By the first of them that notices, and by no other.
    if shared and not all("turns" in names for names in told):
        for names in told:
            names.add("turns")
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
