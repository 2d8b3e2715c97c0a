# SPDX-License-Identifier: Apache-2.0
"""Adding variables to an optimizer: their group, their slots, their device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._typing import Model, Values
from ..core import Variable, move
from ..errors import HyperparameterError, message
from ..sharding import zero as divide
from ._ages import count_missed
from ._frozen import freeze_new
from ._models import models_of
from ._stepping import hypers_of, owned, slot_variables
from .engine._tree import named
from .porting._swaps import warn_of_swap
from .settings._bounds import convert_bounds
from .settings._groups import add_group, group_class
from .settings._spec import parse, split


def register(optimizer: Any, train_vars: Model) -> None:
    """Add variables, or groups of them; all of them or, after an error, none."""
    groups = split(train_vars)
    with or_nothing(optimizer):
        if groups is None:
            _take_in(optimizer, train_vars)
        for i, (params, settings) in enumerate(groups or ()):
            _add_group(optimizer, params, settings, i)
    warn_of_swap(optimizer)


def register_group(optimizer: Any, params: Model, settings: Values) -> None:
    """Add one group; all of it or, after an error, nothing."""
    with or_nothing(optimizer):
        _add_group(optimizer, params, settings, len(optimizer.groups))


@contextlib.contextmanager
def or_nothing(optimizer: Any) -> Iterator[None]:
    """Undo the registrations of the block if it fails."""
    # Dicts are copied; the Variables in them are not, since registering makes new ones
    # and changes no value of those that were there.
    trained, held = optimizer._trained, vars(optimizer)
    before = trained.variables, trained.paths, trained.has_ambiguous_names
    kept = {
        "groups": dict(optimizer.groups),
        "slots": {path: dict(slots) for path, slots in optimizer.slots.items()},
        "_members": dict(optimizer._members),
        "frozen": optimizer.frozen,
    }
    try:
        yield
    except BaseException:
        trained.variables, trained.paths, trained.has_ambiguous_names = before
        held.update(kept)
        raise


def _add_group(optimizer: Any, params: Model, settings: Values, number: int) -> None:
    index, kind = len(optimizer.groups), type(optimizer)
    optimizer._check_group(settings)
    first = optimizer.groups[0]
    group = group_class(kind)(parse(kind, settings, first), first)
    if isinstance(params, Variable):
        params = [params]
    if isinstance(params, list | tuple):
        params = {str(number): list(params)}
    _refuse_double(optimizer, params, index)
    groups = dict(optimizer.groups)
    add_group(kind, groups, group, _named_by(optimizer._trained.find(params)))
    vars(optimizer)["groups"] = groups
    group.count_by(optimizer.step)
    _take_in(optimizer, params, index)


def _named_by(found: Mapping[str, Any]) -> str:
    """Return the name of a group of these variables: the first, and how many more."""
    first = next(iter(found), "empty")
    return first if len(found) < 2 else f"{first} and {len(found) - 1} more"


def _refuse_double(optimizer: Any, params: Model, index: int) -> None:
    trained, settings = optimizer._trained, optimizer._settings
    taken = {v: p for p, v in trained.variables.items()}
    double = [
        f"{taken[v]}: in group {settings.index(taken[v], v.value)} and in {index}"
        for v in trained.find(params).values()
        if v in taken
    ]
    if double:
        raise HyperparameterError(
            message(
                "A variable has settings from two groups:",
                double,
                "a group is split by a rule: groups=[{'match': path, 'lr': 1e-3}] at "
                "construction.",
            )
        )


def _take_in(optimizer: Any, train_vars: Model, index: int | None = None) -> None:
    is_added_later = bool(optimizer.slots) and int(optimizer.step.value) > 0
    hypers = hypers_of(optimizer)
    new = optimizer._trained.add(train_vars)
    models_of(optimizer).add(train_vars)
    values = {path: optimizer._trained.variables[path].value for path in new}
    if index is not None:
        optimizer._members.update((path, index) for path, _ in named(values))
    convert_bounds(optimizer, values)
    for path, value in values.items():
        for leaf_path, leaf in named({path: value}):
            hypers(leaf_path, leaf)[0].fit(leaf_path, leaf)
            slots = slot_variables(optimizer, leaf_path, leaf, hypers)
            optimizer.slots[leaf_path] = slots
            # It has done none of the steps so far: its age is 0.
            if is_added_later:
                missed = Variable(jnp.array(optimizer.step.value))
                optimizer.slots[leaf_path]["missed_steps"] = missed
            if freeze_new(optimizer, leaf_path, leaf):
                count_missed(optimizer, leaf_path)
        _keep_beside(optimizer, value)
    if new:
        optimizer._parameters_changed()
    if new and (optimizer.zero is not None or optimizer.offload is not None):
        divide(optimizer, axis=optimizer.zero, offload=optimizer.offload)
    optimizer._revision.changed()


def _keep_beside(optimizer: Any, value: Any) -> None:
    # Scalars that sit elsewhere than the parameters would come back from the first
    # step on the parameters' device, and the second step would compile again.
    leaf = jax.tree.leaves(value)[0]
    if isinstance(leaf, Tracer) or not leaf.committed:
        return
    own = list(owned(optimizer).values())
    if any(getattr(v.value, "committed", True) is False for v in own):
        move(own, leaf.sharding)
