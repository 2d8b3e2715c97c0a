# SPDX-License-Identifier: Apache-2.0
"""The ages of variables: the steps that each of them took itself.

An optimizer counts its steps once, for all variables. A variable that took fewer keeps
the difference beside its slots, as ``missed_steps``; its age is ``step`` minus that.
Most variables took all of them and keep nothing. A difference may be below 0, after a
count that is smaller than the age was loaded.

How a load keeps the ages right: a variable whose slots are loaded has its age in the
file, every other variable the age that it had before. Both counts are known, so the
differences follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._typing import PyTree
from ..core import Variable, join
from ..runtime import exclusive
from .engine._step import OF_THE_ENGINE
from .engine._tree import named

MISSED = "missed_steps"


class Aged(NamedTuple):
    """The age of one variable, as a load changes it.

    Attributes:
        keys: of what belongs to its age, in the state.
        key: of the steps that it missed.
        missed: the Variable of these, if there is one.
        start: makes that Variable, and returns how to undo it.
    """

    keys: list[str]
    key: str
    missed: Variable | None
    start: Callable[[], Callable[[], None]]


def count_missed(optimizer: Any, path: str) -> None:
    """Count the steps that a variable misses from now on."""
    if MISSED not in optimizer.slots[path]:
        zero = jnp.zeros_like(optimizer.step.value)
        optimizer.slots[path][MISSED] = Variable(zero, name=f"{path}.{MISSED}")
        optimizer._revision.changed()


def note_skipped(optimizer: Any, grads: dict[str, Any]) -> None:
    """Count the missed steps of variables whose gradient is None for the first time."""
    # Each eager step asks, and pays for each array that Python looks at.
    if all(issubclass(kind, jax.Array) for kind in set(map(type, grads.values()))):
        return
    with exclusive():
        _note_skipped(optimizer, grads)


def _note_skipped(optimizer: Any, grads: dict[str, Any]) -> None:
    for path, grad in named(grads, none=True):
        slots = optimizer.slots[path]
        if grad is None and MISSED not in slots:
            # The Variable outlives the trace in which the first None comes, so its
            # first value is concrete, and the trace takes it as an input.
            with jax.ensure_compile_time_eval():
                zero = jnp.zeros((), jnp.int32)
            slots[MISSED] = Variable.outside(zero, f"{path}.{MISSED}")


def ages_of(optimizer: Any, path: str) -> Iterable[Aged]:
    """Return the variables of an optimizer, whose own path in the state is ``path``."""

    def counter(name: str) -> Callable[[], Callable[[], None]]:
        def count() -> Callable[[], None]:
            count_missed(optimizer, name)
            return lambda: _forget(optimizer, name)

        return count

    for name, slots in optimizer.slots.items():
        keys = [join(path, "slots", name, k) for k in slots if k not in OF_THE_ENGINE]
        key = join(path, "slots", name, MISSED)
        yield Aged(keys, key, slots.get(MISSED), counter(name))


def _forget(optimizer: Any, name: str) -> None:
    del optimizer.slots[name][MISSED]
    optimizer._revision.changed()


def keep_ages(
    variables: Iterable[Aged],
    step: tuple[str, Any],
    state: MutableMapping[str, PyTree],
    context: Mapping[str, Any],
    undo: list[Callable[[], None]],
) -> None:
    """Add the entries of a state that keep the ages right.

    Args:
        variables: those of an optimizer.
        step: the key of its count in the state, and the count before the load.
        state: the values to load, by path; counts are added to it.
        context: the entries of the file that a selection left out.
        undo: list that functions are added to which undo the changes made here.
    """
    key, before = step
    for each in variables:
        missed = _missed(each, key, before, state, context)
        if missed is None:
            continue
        if each.missed is None:
            if each.key not in state and _is_zero(missed):
                continue
            undo.append(each.start())
        state[each.key] = missed


_NONE_MISSED = np.zeros((), np.int32)


def _missed(
    each: Aged, key: str, before: Any, state: Mapping, context: Mapping
) -> Any | None:
    """Return the steps that a variable has missed after a load, None for as before."""
    # ``state`` is loaded, ``context`` was left out by a selection but is in the file.
    # Its slots stay, and so must its age, which is before - own.
    if each.keys and not any(k in state for k in each.keys):
        if key not in state:
            return None
        own = 0 if each.missed is None else each.missed.value
        return _as_count(_number(state[key]) - before + own)
    # Slots and step are loaded: the file's own count fits both, and none there is 0.
    if key in state:
        return state.get(each.key, context.get(each.key, _NONE_MISSED))
    # Slots are loaded without their step: the age is that of the file, context - own.
    if key in context and each.keys:
        own = state.get(each.key, context.get(each.key, 0))
        return _as_count(before - _number(context[key]) + _number(own))
    return state.get(each.key)


def _number(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def _as_count(value: Any) -> Any:
    return jnp.asarray(value, jnp.int32)


def _is_zero(value: Any) -> bool:
    return not isinstance(value, Tracer) and not np.any(np.asarray(value))
