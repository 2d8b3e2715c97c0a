# SPDX-License-Identifier: Apache-2.0
"""The table of doors: every state x every way in x every change of the program.

A cell saves a trained optimizer, builds another program, and takes the state in through
one door. It is

- *right*, if the state and the next step are those of the run that went on, by name,
- *refused*, if an error of ours names the difference, and nothing has changed,
- *wrong* otherwise.

What is refused is tried once more in the way that the help of the error names.
"""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from brainopt import optim
from brainopt.errors import BrainoptError, StateDictError
from tests.checkpoint.doors.changes import CHANGES, Change
from tests.checkpoint.doors.runs import (
    CORE,
    DOORS,
    FIRST,
    SUFFIXES,
    Saved,
    core_of,
    gradients,
    inside,
    made,
    saved_run,
    step,
    values,
)
from tests.checkpoint.doors.things import THINGS, Thing


def cells(name: str, changes, doors, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (change, door, verdict) of the cells of one thing.

    Args:
        name: of the thing.
        changes: names of changes.
        doors: returns the names of doors for the name of a change.
        folder: a new one.
    """
    thing, others = THINGS[name], list(THINGS)
    other = THINGS[others[(others.index(name) + 1) % len(others)]]
    for label in changes:
        change = CHANGES[label].of(thing)
        if change is None:
            continue
        here = other if change.is_other else thing
        at = folder / label.replace(" ", "-")
        at.mkdir()
        through = doors(label)
        saved = saved_run(thing, change, at, through)
        for door in through:
            for verdict in _cell(saved, here, change, door):
                yield label, door, verdict


def _cell(saved: Saved, here: Thing, change: Change, door: str) -> Iterator[str]:
    """Yield the verdict of the first attempt, and of the second if there is one."""
    if door == CORE:
        # The core knows no ties: each name is a parameter.
        tied = "=" in change.here + change.saved
        if saved.core is not None and _has_core(here) and not change.is_moved | tied:
            yield _core_verdict(saved, here, change)
        return
    suffix = "." + door.partition(".")[2]
    if suffix in SUFFIXES and not (saved.folder / f"both{suffix}").exists():
        return
    first = _verdict(saved, here, change, door, {})
    expected = change.must if here.dtype == np.float32 else ""
    yield first if expected in ("", first) else f"wrong: {first}, not {expected}"
    if first == "refused":
        yield _verdict(saved, here, change, door, change.lenient)


def _verdict(saved, here, change, door, how) -> str:
    net, node = made(here, change.here, change.rules_here, change.frozen_here)
    place = jax.devices()[-1 if change.is_moved else 0]
    if change.is_moved:
        net.to(place), node.to(place)
    before = values(net, node)
    try:
        told = DOORS[door](saved, node, net, **how)
    except Exception as error:
        same = _equal(values(net, node), before) if "load" not in door else True
        return _refused(error, change, same)
    # A lenient load takes what fits, and warns of what has another shape.
    if door == "load_state_dict" and any(report.mismatched for report in told):
        return _refused(StateDictError(str(told)), change, True)
    if change.is_other:
        return _by_name(saved, net, node, before)
    if not _lies_at(place, net, node):
        return "wrong: it has moved"
    state = tuple((k, v.tobytes()) for k, v in values(net, node).items())
    if state not in saved.judged:
        expected = _expected(saved, here, change)
        step(here, net, node, 2)
        is_there = _lies_at(place, net, node)
        verdict = _compared(values(net, node), expected, change, here)
        saved.judged[state] = verdict if is_there else "wrong: its step has moved it"
    return saved.judged[state]


def _lies_at(place, net, node):
    held = [*net.vars().values(), *node.vars().values()]
    return {place} == set().union(*(v.value.devices() for v in held))


def _refused(error, change, is_unchanged) -> str:
    if not isinstance(error, BrainoptError):
        return f"wrong: {type(error).__name__}: {error}"
    if not any(name in str(error) for name in change.names):
        return f"wrong: names nothing: {error}"
    return "refused" if is_unchanged else "wrong: changed by an error"


def _expected(saved, here, change) -> dict[str, np.ndarray]:
    """Return all values after the next step, by the paths of this program."""
    expected = dict(saved.after)
    if "=" in change.here:  # the first name of the tied weight is the other one
        expected = {_renamed(path): value for path, value in expected.items()}
    if "new" in change.here:
        net, node = made(here, "new", (), "")
        if saved.rate is not None:
            inside(node).lr = saved.rate
        _share(saved, node)
        step(here, net, node, 2)
        alone = values(net, node)
        expected |= {path: v for path, v in alone.items() if "new" in path.split(".")}
    return expected


def _share(saved, node):
    """Give what is new the part of a state that all variables share."""
    if isinstance(node, optim.RLS):
        node.load_state_dict(saved.memory[1])
    while not isinstance(node, optim.Lookahead) and hasattr(node, "optimizer"):
        node = node.optimizer
    if isinstance(node, optim.Lookahead):
        node.count.value = node.count.value + 2


def _renamed(path):
    return ".".join("t" if part == "a" else part for part in path.split("."))


def _compared(found, expected, change, here) -> str:
    loose = max(1e-4 if change.is_x64 else 2e-6, here.loose)
    for path, value in found.items():
        parts = path.split(".")
        # Of what the file has not, and of the ages beside it, the weights tell.
        is_new = "groups" in parts or parts[-1] == "missed_steps" or "missed" in parts
        if path not in expected:
            if is_new:
                continue
            return f"wrong: {path} is not there in the run that went on"
        right = expected[path]
        # Ages and counts of micro-batches say the same in two ways, and norms of all
        # gradients see the new ones.
        told = ("missed_steps", "grad_count", "grad_norm", "param_norm", "update_norm")
        if parts[-1] in told and "new" in change.here + change.saved:
            continue
        if not np.allclose(
            np.asarray(value, np.float64), np.asarray(right, np.float64), loose, loose
        ):
            return f"wrong: {path}: {value.ravel()[:3]}, not {right.ravel()[:3]}"
    return "right"


def _by_name(saved, net, node, before) -> str:
    """Judge a state of another class: each entry is that of its name, or untouched."""
    stored = {f"net.{k}": v for k, v in saved.memory[0].items()}
    stored |= {f"opt.{k}": v for k, v in saved.memory[1].items()}
    for path, value in values(net, node).items():
        if path.endswith(("missed_steps", "schedule.numbers.lr")) or "average" in path:
            continue
        right = stored[path] if path in stored else before.get(path, value)
        if np.shape(right) != value.shape or not np.array_equal(right, value):
            return f"wrong: {path}: {value.ravel()[:3]}"
    return "right"


def _equal(one, two):
    return one.keys() == two.keys() and all(
        np.asarray(one[k]).tobytes() == np.asarray(two[k]).tobytes() for k in one
    )


def _has_core(thing):
    try:
        return isinstance(thing.make(), optim.Optimizer)
    except TypeError:
        return False


def _core_verdict(saved, here, change) -> str:
    params, state, after = saved.core
    opt = core_of(here, change.rules_here)
    names = [name.partition("=")[0] for name in change.here.split() if "=" not in name]
    params = {
        name: jnp.asarray(params.get(name, FIRST[name]), here.dtype) for name in names
    }
    grads = gradients(params, 2, here.dtype)
    grads |= dict.fromkeys(change.frozen_here)
    try:
        with jax.disable_jit():
            found, _ = opt.apply(params, state, grads)
    except Exception as error:
        return _refused(error, change, True)
    if change.is_other:
        same = opt.groups[0].numbers.names == saved.numbers
        return "right" if same else "wrong: the numbers of another class"
    expected = {name: np.asarray(value) for name, value in after.items()}
    if any(name not in expected for name in found):
        return "wrong: a layer that no state is for"
    return _compared(
        {k: np.asarray(v) for k, v in found.items()}, expected, change, here
    )
