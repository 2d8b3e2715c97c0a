# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other libraries, and the optimizers in them."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointError, message
from . import _layout
from ._doors import load
from ._msgpack import load_msgpack
from ._os import fs
from ._paths import flat_paths

_OWN_READERS = (".npz", ".safetensors")
_TORCH = re.compile(r"(?:.*?state\.)?(.+)\.(exp_avg|exp_avg_sq|max_exp_avg_sq|step)")
_TORCH_SLOTS = {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "v_max"}
_BRAINPY = re.compile(r"[A-Za-z_]\w*?\d+\.(?:(.+)_(m|v|vmax)|(step))")
_BRAINPY_SLOTS = {"m": "m", "v": "v", "vmax": "v_max"}


def load_foreign(path: str | os.PathLike[str]) -> Any:
    """Load a checkpoint of any known kind as plain data.

    Known are brainopt's own file, ``.npz``, ``.safetensors``, the MessagePack files of
    flax, older BrainPy and braintools, and folders of Orbax (which needs
    ``orbax-checkpoint``). Lists and tuples of flax are dicts of ``"0"``, ``"1"``, ….

    Args:
        path: a file, or a folder of Orbax.

    Raises:
        CheckpointCorruptError: the file is damaged, or of no known kind.
        CheckpointIOError: the system refused.
        CheckpointError: it is a folder, and Orbax is not installed.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        return _orbax(name)
    if name.lower().endswith(_OWN_READERS) or _has_magic(name):
        return load(name)
    return load_msgpack(name)


def adam_state(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Find the state of Adam or AdamW in the checkpoint of another library.

    It is understood where it was written by optax (through flax or Orbax: ``count``,
    ``mu``, ``nu``), by torch (exported by parameter name: ``exp_avg``,
    ``exp_avg_sq``), or by BrainPy (state dicts v1 and v2: ``AdamW0.W_m``).

    Args:
        tree: what `load_foreign` returned, or a part of it.

    Returns:
        ``{"step": …, "slots.<path>.m": …, "slots.<path>.v": …}``, which the state of
        a brainopt Adam or AdamW is called. Its other numbers stay as they are
        constructed: restore with ``only=["step", "slots"]``.

    Raises:
        CheckpointError: there is no such state, or there are several.

    Example:
        >>> import numpy as np
        >>> moments = {"count": 3, "mu": {"W": np.ones(2)}, "nu": {"W": np.ones(2)}}
        >>> sorted(adam_state({"0": moments, "1": {}}))
        ['slots.W.m', 'slots.W.v', 'step']
    """
    flat = flat_paths(tree)
    readers = (_from_optax(tree), _from_torch(flat), _from_brainpy(flat))
    found = [state for state in readers if state]
    if len(found) != 1:
        what = "no state" if not found else "the states of several libraries"
        raise CheckpointError(
            message(
                f"There is {what} of Adam here; these paths are:",
                flat,
                "pass the part of the checkpoint that holds the optimizer.",
            )
        )
    state = found[0]
    steps = {int(np.max(step)) for step in state.pop("steps")}
    if len(steps) != 1:
        raise CheckpointError(
            message(f"The optimizer has no step, or several: {sorted(steps)}.")
        )
    return {"step": np.asarray(steps.pop(), np.int32), **state}


def from_brainpy(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a BrainPy state dict of version 2 to one of version 1.

    Version 2 has one dict for each node, whose keys repeat the name of the node.
    Everything else is left as it is.

    Args:
        tree: a state dict, as `load_foreign` gives it.

    Example:
        >>> from_brainpy({"Dense0": {"Dense0.W": 1, "Dense0.b": 2}})
        {'Dense0.W': 1, 'Dense0.b': 2}
    """
    flat: dict[str, Any] = {}
    for node, state in tree.items():
        if isinstance(state, Mapping) and all(
            str(key).startswith(f"{node}.") for key in state
        ):
            flat |= state
        else:
            flat[node] = state
    return flat


def _from_optax(tree: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"steps": []}
    for part in _moments(tree):
        state["steps"].append(part["count"])
        for theirs, ours in (("mu", "m"), ("nu", "v"), ("nu_max", "v_max")):
            for path, array in flat_paths(part.get(theirs, {})).items():
                state[f"slots.{path}.{ours}"] = array
    return state if len(state) > 1 else {}


def _moments(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping):
        return
    if {"count", "mu", "nu"} <= set(tree):
        yield tree
    else:
        for child in tree.values():
            yield from _moments(child)


def _from_torch(flat: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {"steps": []}
    for path, array in flat.items():
        match = _TORCH.fullmatch(path)
        if match and match[2] == "step":
            state["steps"].append(array)
        elif match:
            state[f"slots.{match[1]}.{_TORCH_SLOTS[match[2]]}"] = array
    return state if len(state) > 1 else {}


def _from_brainpy(flat: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {"steps": []}
    for path, array in flat.items():
        # In version 2 the name of the node stands twice: AdamW0.AdamW0.W_m.
        node, _, rest = path.partition(".")
        match = _BRAINPY.fullmatch(rest if rest.startswith(f"{node}.") else path)
        if match and match[3]:
            state["steps"].append(array)
        elif match:
            state[f"slots.{match[1]}.{_BRAINPY_SLOTS[match[2]]}"] = array
    return state if len(state) > 1 else {}


def _has_magic(path: str) -> bool:
    try:
        fd = fs.open_read(path)
    except OSError:
        return True  # load says by which name and why
    try:
        head = bytearray(len(_layout.MAGIC))
        count = fs.read_at(fd, [memoryview(head)], 0)
        return head[:count] == _layout.MAGIC
    except OSError:
        return True
    finally:
        fs.close(fd)


def _orbax(path: str) -> Any:
    try:
        from orbax import checkpoint as orbax  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CheckpointError(
            message(
                f"{path} is a folder, as Orbax writes, and Orbax is not installed.",
                help="pip install orbax-checkpoint",
            )
        ) from None
    tree = orbax.PyTreeCheckpointer().restore(os.path.abspath(path))
    return _plain(tree)


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _plain(child) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return {str(index): _plain(child) for index, child in enumerate(tree)}
    return np.asarray(tree) if hasattr(tree, "__array__") else tree
