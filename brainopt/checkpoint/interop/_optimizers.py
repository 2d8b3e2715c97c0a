# SPDX-License-Identifier: Apache-2.0
"""The states of optimizers that other libraries saved, under the names of ours.

Such files do not say which library wrote them. So each reader looks for the names that
its library gives to moments, and the one that finds some is right; two are an error.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..._select import Rename, renamed
from ..._typing import PyTree
from ...errors import CheckpointError, PathError, message
from ..tree._paths import flat_paths

# ``state.<parameter>.exp_avg``; whatever stands before ``state.`` is the user's.
_TORCH = re.compile(
    r"(?:.*?state\.)?(.+)\.(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|step)"
)
_TORCH_SLOTS = {
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "max_exp_avg_sq": "v_max",
    "momentum_buffer": "b",
}
_OPTAX_SLOTS = {"mu": "m", "nu": "v", "nu_max": "v_max", "trace": "b"}
_BRAINPY_NODE = re.compile(r"[A-Za-z_]\w*?\d+")
_BRAINPY_MOMENT = re.compile(r"(.+)_(m|v|vmax)")
_BRAINPY_SLOTS = {"m": "m", "v": "v", "vmax": "v_max"}
_BRAINPY_MOMENTUM = {"v": "velocity"}
_PART = r"(?:'[^']*'|\d+)"
_TUPLE = re.compile(rf"\(({_PART}(?:, {_PART})*),?\)")
_EPOCH = "groups.default.schedule.last_epoch"

_Found = dict[Any, Any]


def optimizer_state(
    tree: PyTree, *, rename: Rename | None = None, step: int | None = None
) -> dict[str, Any]:
    """Find the state of an optimizer in the checkpoint of another library.

    Adam, AdamW and descent with momentum are understood where they were written by
    optax (through flax or Orbax: ``count``, ``mu``, ``nu``, ``trace``), by torch
    (exported by parameter name: ``exp_avg``, ``exp_avg_sq``, ``momentum_buffer``), or
    by BrainPy (state dicts v1 and v2: ``AdamW0.W_m``).

    Args:
        tree: what `load_foreign` returned, or a part of it.
        rename: from the parameters' names there to their paths in your model, as
            `restore` takes it.
        step: the updates done so far, [0, 2³¹), where the checkpoint has none:
            torch and BrainPy keep no step beside a momentum.

    Returns:
        ``{"step": …, "slots.<path>.m": …, "slots.<path>.v": …}``, as the state of a
        brainopt optimizer calls them; momentum is ``b`` from torch and optax, as in
        `SGD`, and ``velocity`` from BrainPy, as in `Momentum`. The epoch of a BrainPy
        schedule is there too. The numbers of the optimizer stay as it is
        constructed: restore with ``only=["opt.step", "opt.slots"]``.

    Raises:
        CheckpointError: there is no such state, or there are several, or its step is
            not known.

    Example:
        >>> import numpy as np
        >>> moments = {"count": 3, "mu": {"W": np.ones(2)}, "nu": {"W": np.ones(2)}}
        >>> sorted(optimizer_state({"0": moments, "1": {}}, rename={"W": "l.W"}))
        ['slots.l.W.m', 'slots.l.W.v', 'step']
    """
    flat = flat_paths(tree)
    readers = (_from_optax(tree), _from_torch(flat), _from_brainpy(flat))
    found = [(slots, steps, rest) for slots, steps, rest in readers if slots]
    if len(found) != 1:
        what = "no state" if not found else "the states of several libraries"
        raise CheckpointError(
            message(
                f"There is {what} of an optimizer here; these paths are:",
                flat,
                "pass the part of the checkpoint that holds the optimizer.",
            )
        )
    slots, steps, rest = found[0]
    named = renamed({f"{path}.{slot}": a for (path, slot), a in slots.items()}, rename)
    state = {f"slots.{path}": array for path, array in named.items()}
    return {"step": np.asarray(_one_step(steps, step), np.int32), **state, **rest}


def from_brainpy(tree: PyTree) -> Any:
    """Flatten a BrainPy state dict of version 2 to one of version 1.

    Version 2 has one dict for each node, whose keys repeat the name of the node. It is
    flattened anywhere in the tree; everything else is left as it is.

    Args:
        tree: a state dict, as `load_foreign` gives it.

    Raises:
        PathError: two values would have one name.

    Example:
        >>> from_brainpy({"Dense0": {"Dense0.W": 1, "Dense0.b": 2}})
        {'Dense0.W': 1, 'Dense0.b': 2}
    """
    if not isinstance(tree, Mapping):
        return tree
    flat: dict[Any, Any] = {}
    for node, state in tree.items():
        part = state if _is_node(node, state) else {node: from_brainpy(state)}
        if twice := [name for name in part if name in flat]:
            raise PathError(message("Two values would have one name:", twice))
        flat |= part
    return flat


def _is_node(name: Any, state: Any) -> bool:
    if not isinstance(state, Mapping) or not state:
        return False
    return all(str(key).startswith(f"{name}.") for key in state)


def _one_step(steps: list[Any], given: int | None) -> int:
    # torch has a step for each parameter: equal ones are one step.
    found = {int(np.max(step)) for step in steps}
    if given is not None:
        found.add(given)
    if len(found) != 1:
        said = "several: " + ", ".join(map(str, sorted(found))) if found else "none"
        raise CheckpointError(
            message(
                f"An optimizer has one step, and this checkpoint has {said}.",
                help="pass `step=`, the number of updates it has done, or the part of "
                "the checkpoint that holds one optimizer.",
            )
        )
    return found.pop()


def _from_optax(tree: PyTree) -> tuple[_Found, list[Any], _Found]:
    slots: _Found = {}
    steps, others = [], []
    for part in _parts_of_optax(tree):
        if not {"mu", "trace"} & set(part):
            others.append(part["count"])
            continue
        steps += [part["count"]] if "count" in part else []
        for theirs, ours in _OPTAX_SLOTS.items():
            for path, array in flat_paths(part.get(theirs, {})).items():
                # A scalar without a path is no moment of a parameter.
                if path or np.ndim(array):
                    _put(slots, _TUPLE.sub(_dotted, path), ours, array)
    # A momentum has no count of its own; that of a schedule beside it tells.
    return slots, steps or others, {}


def _dotted(name: re.Match[str]) -> str:
    """Write a path that braintools has as a tuple: ``('l', 0)`` is ``l.0``."""
    return ".".join(part.strip("'") for part in name[1].split(", "))


def _parts_of_optax(tree: PyTree) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping):
        return
    # By the fields of its named tuples: ScaleByAdamState, TraceState, and the state of
    # a schedule, which is a count alone. They are anywhere in the nesting of chains.
    names = set(tree)
    if {"count", "mu"} <= names or names in ({"trace"}, {"count"}):
        yield tree
    else:
        for child in tree.values():
            yield from _parts_of_optax(child)


def _from_torch(flat: Mapping[str, Any]) -> tuple[_Found, list[Any], _Found]:
    slots: _Found = {}
    steps: list[Any] = []
    for path, array in flat.items():
        match = _TORCH.fullmatch(path)
        if match and match[2] == "step":
            steps.append(array)
        elif match and array is not None:
            _put(slots, match[1], _TORCH_SLOTS[match[2]], array)
    return slots, steps, {}


def _from_brainpy(flat: Mapping[str, Any]) -> tuple[_Found, list[Any], _Found]:
    nodes: dict[str, dict[str, Any]] = {}
    for path, array in flat.items():
        place = _node_of(path)
        if place is not None:
            nodes.setdefault(place[0], {})[place[1]] = array
    slots: _Found = {}
    steps, epochs = [], []
    for state in nodes.values():
        matches = {name: _BRAINPY_MOMENT.fullmatch(name) for name in state}
        # A node is a schedule if it has nothing but counts, and an optimizer if it has
        # nothing but moments and a step; layers of the model have other names.
        if set(state) <= {"last_epoch", "last_call"}:
            epochs += [state["last_epoch"]] if "last_epoch" in state else []
        elif all(match or name == "step" for name, match in matches.items()):
            steps += [state["step"]] if "step" in state else []
            found = [match for match in matches.values() if match]
            is_adam = any(match[2] != "v" for match in found)
            names = _BRAINPY_SLOTS if is_adam else _BRAINPY_MOMENTUM
            for match in found:
                _put(slots, match[1], names[match[2]], state[match[0]])
    epoch = {_EPOCH: np.asarray(epochs[0], np.int32)} if len(epochs) == 1 else {}
    return slots, steps, epoch


def _node_of(path: str) -> tuple[str, str] | None:
    """Part ``opt.AdamW0.l.W_m`` into the node ``opt.AdamW0`` and its ``l.W_m``."""
    parts = path.split(".")
    for end in range(1, len(parts)):
        # In version 2 the name of the node stands twice: AdamW0.AdamW0.l.W_m.
        twice = parts[end - 1] == parts[end]
        if twice or _BRAINPY_NODE.fullmatch(parts[end - 1]):
            return ".".join(parts[:end]), ".".join(parts[end + twice :])
    return None


def _put(slots: _Found, path: str, slot: str, array: Any) -> None:
    if (path, slot) in slots:
        raise CheckpointError(
            message(
                f"Two optimizers here have a state for {path}.",
                help="pass the part of the checkpoint that holds one of them.",
            )
        )
    slots[path, slot] = array
