# SPDX-License-Identifier: Apache-2.0
"""State dicts: every Variable out as ``{path: array}``, and back in as one act."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_key_array
from ..errors import PathError, StateDictError, message
from . import _trace, _walk
from ._value import same_shape
from ._variable import Variable


@dataclasses.dataclass
class LoadResult:
    """What did not fit when a state was loaded.

    Attributes:
        missing: paths of Variables that the state has no entry for.
        unexpected: entries that no Variable has.
        mismatched: entries of another shape or dtype, one sentence each.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def lines(self) -> list[str]:
        """Return one line for each thing that did not fit."""
        return [
            *(f"missing: {path}" for path in self.missing),
            *(f"unexpected: {path}" for path in self.unexpected),
            *self.mismatched,
        ]


class Staged(LoadResult):
    """A compared state that is ready to be committed."""

    def __init__(self):
        super().__init__([], [], [])
        self._writes: dict[Variable, Any] = {}

    def commit_with(self, *others: Staged) -> None:
        """Write this and the other states at once."""
        writes: dict[Variable, Any] = {}
        for staged in (self, *others):
            writes |= staged._writes
        _trace.commit(list(writes), list(writes.values()))


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, jax.Array):
        return [(path, value)]
    flat, _ = jax.tree_util.tree_flatten_with_path(value)
    return [
        (_walk.join(path, jax.tree_util.keystr(keys, simple=True, separator=".")), leaf)
        for keys, leaf in flat
    ]


def state_dict(root: Any) -> dict[str, Any]:
    """Return ``{path: array}`` of the Variables below ``root``, each once.

    A Variable that holds a pytree gives one entry for each leaf.
    """
    variables = _walk.collect_vars(root).unique()
    state: dict[str, Any] = {}
    values = _trace.snapshot(list(variables.values()))
    for path, value in zip(variables, values, strict=True):
        for key, leaf in _leaves(path, value):
            if key in state:
                raise PathError(message("Two different objects under one path:", [key]))
            state[key] = leaf
    return state


def stage(root: Any, state: dict[str, Any], *, strict: bool, cast: bool) -> Staged:
    """Compare ``state`` with the Variables below ``root``; write nothing.

    Entries may use any path of a shared Variable, or BrainPy's absolute names.
    """
    staged, used = Staged(), set()
    keys_of: dict[Variable, list[str]] = {}
    for owned in _walk.walk_vars(root):
        keys_of.setdefault(owned.variable, []).append(owned.path)
    absolute = _absolute_names(root, state, keys_of)
    for variable, paths in keys_of.items():
        old = _trace.read(variable)
        names = [*paths, *absolute.get(variable, ())]
        leaves, complete = [], True
        for i, (path, leaf) in enumerate(_leaves(paths[0], old)):
            found = [k for name in names if (k := _leaves(name, old)[i][0]) in state]
            used.update(found)
            if not found:
                staged.missing.append(path)
                complete = False
                continue
            new, problem = _convert(state[found[0]], leaf, variable.batch_axis, cast)
            if problem:
                staged.mismatched.append(f"{path}: {problem}")
                complete = False
            leaves.append(new)
        if complete:
            staged._writes[variable] = jax.tree.unflatten(
                jax.tree.structure(old), leaves
            )
    staged.unexpected.extend(key for key in state if key not in used)
    return staged


def _absolute_names(root, state, keys_of) -> dict[Variable, list[str]]:
    known = {path for paths in keys_of.values() for path in paths}
    if known.issuperset(state):
        return {}
    names: dict[Variable, list[str]] = {}
    for owned in _walk.walk_vars(root):
        names.setdefault(owned.variable, []).append(owned.absolute)
    return names


def _convert(new: Any, old: Any, batch_axis: int | None, cast: bool) -> tuple[Any, str]:
    if is_key_array(new) != is_key_array(old):
        return None, f"stored {_dtype(new)}, variable {_dtype(old)}"
    if is_key_array(old):
        if new.shape != old.shape or new.dtype != old.dtype:
            return None, f"stored {_what(new)}, variable {_what(old)}"
    else:
        new = np.asarray(new) if not isinstance(new, jax.Array) else new
        if not same_shape(new.shape, old.shape, batch_axis):
            return None, f"stored {_what(new)}, variable {_what(old)}"
        if new.dtype != old.dtype and not cast:
            return None, f"stored {_what(new)}, variable {_what(old)}"
        new = jnp.array(new, old.dtype)
    if old.committed and new.sharding != old.sharding:
        new = jax.device_put(new, old.sharding, may_alias=False)
    return new, ""


def _dtype(value: Any) -> str:
    return str(getattr(value, "dtype", type(value).__name__))


def _what(value: Any) -> str:
    return f"{value.shape} {value.dtype}"


def load_state_dict(
    root: Any, state: dict, warn: bool, compatible: str, strict: bool, cast: bool
) -> LoadResult:
    """Do what `Node.load_state_dict` promises."""
    if compatible not in ("v1", "v2"):
        raise ValueError(f"compatible={compatible!r}: 'v1' or 'v2'.")
    flat: dict[str, Any] = {}
    for key, value in state.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    staged = stage(root, flat, strict=strict, cast=cast)
    if staged:
        text = message(
            f"The state dict does not fit this {type(root).__name__}:",
            staged.lines(),
            "compare with `node.state_dict()`; `strict=False` loads what fits, "
            "`cast=True` converts dtypes.",
        )
        if strict:
            raise StateDictError(text)
        if warn:
            warnings.warn(text, stacklevel=3)
    staged.commit_with()
    return LoadResult(staged.missing, staged.unexpected, staged.mismatched)
