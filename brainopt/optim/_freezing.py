# SPDX-License-Identifier: Apache-2.0
"""Freezing variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._select import Choice, refuse_unmatched
from ._ages import count_missed
from ._frozen import set_frozen
from ._stepping import hypers_of, slot_variables
from .engine._tree import named


def freeze(optimizer: Any, choices: tuple, drop_slots: bool) -> list[str]:
    """Stop training some variables; see `Optimizer.freeze`."""
    if not optimizer._trained.variables:
        _note_for_later(optimizer, choices, True)
        return []
    for path in _chosen(optimizer, choices):
        if drop_slots:
            optimizer.slots[path] = {}
            optimizer._revision.changed()
        count_missed(optimizer, path)
        set_frozen(optimizer, {*optimizer.frozen, path})
    optimizer._parameters_changed()
    return list(optimizer.frozen)


def unfreeze(optimizer: Any, choices: tuple) -> list[str]:
    """Train frozen variables again; see `Optimizer.unfreeze`."""
    if not optimizer._trained.variables:
        _note_for_later(optimizer, choices, False)
        return []
    unfrozen = set(_chosen(optimizer, choices))
    hypers = hypers_of(optimizer)
    for path, leaf in named(optimizer._trained.values()):
        # Nothing but the count: the slots were dropped, or the rule has none. They
        # start anew, and the age of the variable with them.
        if path in unfrozen and set(optimizer.slots[path]) == {"missed_steps"}:
            optimizer.slots[path] |= slot_variables(optimizer, path, leaf, hypers)
            optimizer.slots[path]["missed_steps"].value = optimizer.step.value
            optimizer._revision.changed()
    set_frozen(optimizer, {*optimizer.frozen} - unfrozen)
    optimizer._parameters_changed()
    return list(optimizer.frozen)


def _note_for_later(optimizer: Any, choices: tuple, is_frozen: bool) -> None:
    """Note what holds for variables that are registered later; the last one counts."""
    new = ((where, is_frozen) for where in choices or (True,))
    optimizer._frozen_later = (*optimizer._frozen_later, *new)


def as_frozen_now(optimizer: Any) -> Callable[[], None]:
    """Return a function that restores the frozen paths and the slots of now."""
    frozen, slots = {*optimizer.frozen}, {k: {**v} for k, v in optimizer.slots.items()}

    def set_back() -> None:
        for path, held in slots.items():
            present = optimizer.slots.get(path, held)
            # By identity: slots that were dropped and made again are other Variables,
            # and the snapshot has values for the old ones.
            if any(present.get(name) is not v for name, v in held.items()):
                optimizer.slots[path] = present | held
                optimizer._revision.changed()
        if frozen != {*optimizer.frozen}:
            set_frozen(optimizer, frozen)
            optimizer._parameters_changed()

    return set_back


def _chosen(optimizer: Any, choices: tuple) -> list[str]:
    leaves = named(optimizer._trained.values())
    if not choices:
        return [path for path, _ in leaves]
    fits = [Choice(choice) for choice in choices]
    refuse_unmatched(
        "These fit no variable of this optimizer:",
        fits,
        leaves,
        "see opt.vars_to_train for their paths.",
    )
    return [path for path, leaf in leaves if any(fit(path, leaf) for fit in fits)]
