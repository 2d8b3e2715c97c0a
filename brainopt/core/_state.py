# SPDX-License-Identifier: Apache-2.0
"""State dicts: the Variables as ``{path: array}``, and loads of all of them or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import runtime
from .._compat import is_key_array, key_impl
from .._dtypes import changes_numbers, is_weak, keeps_kind
from .._typing import FilePath, Model, StateDict
from .._warnings import warn_user
from ..errors import PathError, StateDictError, StateWarning, message
from ..runtime import same
from . import _walk
from ._files import checkpoints
from ._paths import join, quantities
from ._units import in_own_units
from ._value import same_shape
from ._variable import Variable


@dataclasses.dataclass
class LoadResult:
    """The misfits of a state that was loaded.

    Attributes:
        missing: paths of Variables that the state has no entry for.
        unexpected: entries that no Variable has.
        mismatched: entries of another shape or dtype, one sentence each.
        numbers: the settings of optimizers and schedules that the state replaced, by
            path: the number before, and the one of the state. They are no misfits.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    numbers: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, staged: LoadResult) -> LoadResult:
        """Return what did not fit when a state was compared."""
        missing, unexpected = list(staged.missing), list(staged.unexpected)
        return cls(missing, unexpected, list(staged.mismatched), dict(staged.numbers))

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
        super().__init__([], [], [], {})
        self._writes: dict[Variable, Any] = {}
        self._paths: dict[Variable, str] = {}
        self.undo: list[Callable[[], None]] = []

    def discard(self) -> None:
        """Undo the preparations for this state."""
        # In reverse, as one may rest on those before it.
        for act in reversed(self.undo):
            act()

    def conflicts_with(self, *others: Any) -> list[str]:
        """Return a line for each Variable that has another value in another state."""
        clashing = dict.fromkeys(
            self._paths[variable]
            for table in (getattr(other, "_writes", {}) for other in others)
            for variable, value in self._writes.items()
            if variable in table
            and not same(jax.tree.leaves(value), jax.tree.leaves(table[variable]))
        )
        what = "another node shares this Variable, and has another value for it"
        return [f"{path}: {what}" for path in clashing]

    def commit_with(self, *others: Staged) -> None:
        """Write this and the other states at once."""
        # One commit for all: neither an error nor a signal can leave half of them.
        writes: dict[Variable, Any] = {}
        for staged in (self, *others):
            writes |= staged._writes
        runtime.commit(list(writes), list(writes.values()))


def state_dicts(roots: Sequence[Model]) -> list[dict[str, Any]]:
    """Return ``{path: array}`` of the Variables below each root, at one instant.

    A Variable that holds a pytree gives one entry for each leaf.
    """
    for node in (n for root in roots for n in _walk.collect_nodes(root).values()):
        node._prepare_save()
    found = [_walk.collect_vars(root).unique() for root in roots]
    # One snapshot for all roots: a step of another thread in between would give the
    # optimizer moments that do not belong to the weights.
    variables = list(dict.fromkeys(v for part in found for v in part.values()))
    values = dict(zip(variables, runtime.snapshot(variables), strict=True))
    return [_entries(part, values) for part in found]


def _entries(found: Mapping[str, Variable], values: Mapping) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for path, variable in found.items():
        for tail, leaf in variable._entries(values[variable]):
            key = join(path, tail)
            if key in state:
                raise PathError(message("Two different objects under one path:", [key]))
            state[key] = leaf
    return state


def meta(root: Model, plain: Callable) -> dict[str, Any]:
    """Return the class of a node, its units, and the metadata of parts, by path.

    Args:
        root: the node.
        plain: the function of those parts that have no metadata of their own.
    """
    below = {
        path: node._checkpoint_meta()
        for path, node in _walk.collect_nodes(root, include_self=False).items()
        if type(node)._checkpoint_meta is not plain
    }
    return {"class": type(root).__name__, **below, **units(root)}


def units(root: Model) -> dict[str, dict[str, str]]:
    """Return ``{"units": {path: unit}}`` of the quantities below ``root``, if any."""
    paths: dict[Variable, str] = {}
    for owned in _walk.walk_vars(root):
        paths.setdefault(owned.variable, owned.path)
    values = dict(zip(paths.values(), runtime.snapshot(list(paths)), strict=True))
    units = {f"{k}.{q.unit}": str(q.unit) for k, q in quantities(values).items()}
    return {"units": units} if units else {}


def stage(root: Model, state: StateDict, cast: bool, staged: Staged) -> Staged:
    """Compare ``state`` with the Variables below ``root``; write nothing.

    Entries may use any path of a shared Variable, or BrainPy's absolute names. What is
    found is noted in ``staged``, which is returned.
    """
    try:
        return _stage(root, state, cast, staged)
    except BaseException:  # an entry is read from a file, which may be damaged
        staged.discard()
        raise


def _stage(root: Model, state: StateDict, cast: bool, staged: Staged) -> Staged:
    found = _walk.collect_vars(root)
    first = found.unique()
    variables = list(first.values())
    values = dict(zip(variables, runtime.snapshot(variables), strict=True))
    leaves = {v: dict(v._entries(value)) for v, value in values.items()}
    own = quantities({path: values[variable] for path, variable in first.items()})
    state = in_own_units(state, own)
    given = _sort(root, found, state, leaves, staged)
    make = runtime.array_maker()
    for path, variable in first.items():
        new = {}
        for tail, leaf in leaves[variable].items():
            name, keys = join(path, tail), given.get((variable, tail), [])
            if not keys:
                staged.missing.append(name)
                continue
            # A shared Variable may be in the state under several of its paths.
            entry, *aliases = [state[key] for key in keys]
            if aliases and not all(same(entry, alias) for alias in aliases):
                problem = f"{' and '.join(keys)} differ, and are one Variable here"
                staged.mismatched.append(f"{name}: {problem}")
                continue
            if variable._has_numbers:
                value, problem = _number(entry, leaf)
            else:
                value, problem = _convert(entry, leaf, variable.batch_axis, cast, make)
            if problem := problem or variable._out_of_range(tail, value):
                staged.mismatched.append(f"{name}: {problem}")
                continue
            new[tail] = value
            if variable._has_numbers and _differ(leaf, value):
                staged.numbers[name] = leaf, value
        # A tree is written whole or not at all; numbers by name each for itself.
        if len(new) == len(leaves[variable]) or (new and variable._has_numbers):
            staged._writes[variable] = variable._from_entries(values[variable], new)
            staged._paths[variable] = path
    return staged


def _sort(
    root: Model, found: Mapping[str, Variable], state: StateDict, leaves, staged
) -> dict[tuple[Variable, str], list[str]]:
    """Return the entries for each leaf; note those that are for none."""

    def names(found: Mapping[str, Variable]):
        return {
            join(k, tail): (v, tail) for k, v in found.items() for tail in leaves[v]
        }

    places = names(found)
    # BrainPy's names only where they are needed: asking for them gives every node one.
    if not places.keys() >= state.keys():
        places = names(_walk.collect_vars(root, "absolute")) | places
    given: dict[tuple[Variable, str], list[str]] = {}
    for key in state:
        place = places.get(key) or _walk.find(root, str(key))
        if place is None or place[1] not in leaves.get(place[0], ()):
            staged.unexpected.append(key)
        else:
            given.setdefault(place, []).append(key)
    return given


def _convert(
    new: Any, old: Any, batch_axis: int | None, cast: bool, make: Callable[..., Any]
) -> tuple[Any, str]:
    weak = is_weak(new)
    in_parts = runtime.is_in_parts(new) and new.dtype == old.dtype
    if not isinstance(new, jax.Array) and not in_parts:
        try:
            new = np.asarray(new)
        except ValueError as error:
            return None, f"stored {type(new).__name__} is no array ({error})"
    # Python numbers take any dtype that keeps their kind; an array has chosen its own.
    fits = new.dtype == old.dtype or (
        (weak or cast) and keeps_kind(new.dtype, old.dtype)
    )
    if not fits or not same_shape(new.shape, old.shape, batch_axis):
        return None, f"stored {_what(new)}, variable {_what(old)}"
    if not in_parts and changes_numbers(new, old.dtype):
        problem = "which cannot hold all of its numbers"
        return None, f"stored {_what(new)}, variable {_what(old)}, {problem}"
    if not isinstance(new, jax.Array) and runtime.place_of(old) is not None:
        # Straight to where it belongs: no device has to hold it whole.
        new = new if in_parts else np.asarray(new, old.dtype)
        return runtime.put(new, old.sharding), ""
    if in_parts:
        # Nobody else holds the memory that was read: JAX may take it as it is.
        new = jax.device_put(np.asarray(new))
    elif isinstance(new, np.ndarray):
        new = make(np.asarray(new, old.dtype))
    elif not is_key_array(new):
        new = jnp.array(new, old.dtype)
    return _beside(new, old), ""


def _number(new: Any, old: Any) -> tuple[Any, str]:
    # Of an ensemble there is a number for each member.
    here = "a number" if np.ndim(old) == 0 else f"numbers of shape {np.shape(old)}"
    found = new if isinstance(new, jax.core.Tracer) else np.asarray(new)
    if found.shape != np.shape(old) or found.dtype.kind not in "iuf":
        return None, f"stored {_what(found)}, {here} here"
    return found if found is new or found.ndim else float(found), ""


def _differ(old: Any, new: Any) -> bool:
    traced = any(isinstance(x, jax.core.Tracer) for x in (old, new))
    return not traced and not np.array_equal(old, new)


def _beside(new: Any, old: Any) -> Any:
    """Return ``new`` where ``old`` is: committed to its place, or to none."""
    traced = isinstance(new, jax.core.Tracer) or isinstance(old, jax.core.Tracer)
    if traced or not isinstance(old, jax.Array):
        return new
    # An array that is not committed follows what it is computed with; a committed one
    # in its place would fix the device of all that is computed from it.
    if old.committed:
        if new.committed and runtime.is_at(new, old.sharding):
            return new
        return runtime.put(new, old.sharding)
    if not new.committed:
        return new
    if is_key_array(new):
        data = np.asarray(jax.random.key_data(new))
        return jax.random.wrap_key_data(jnp.array(data), impl=key_impl(new))
    return jnp.array(np.asarray(new))


def _what(value: Any) -> str:
    return f"{value.shape} {value.dtype}"


def load_state_dict(
    root: Model, state: Mapping, warn: bool, compatible: str, strict: bool, cast: bool
) -> LoadResult:
    """Implements `Node.load_state_dict`."""
    if compatible not in ("v1", "v2"):
        raise ValueError(message(f"compatible={compatible!r}.", help="'v1' or 'v2'."))
    if not isinstance(state, Mapping):
        raise StateDictError(message(f"A {type(state).__name__} is no state dict."))
    # BrainPy's "v2" has a dict for each node, whose keys are whole paths already.
    flat: dict[str, Any] = {}
    for key, value in state.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    staged = root._stage_state_dict(flat, strict=strict, cast=cast)
    if staged:
        text = message(
            f"The state dict does not fit this {type(root).__name__}:",
            staged.lines(),
            "compare with `node.state_dict()`; `strict=False` loads what fits, "
            "`cast=True` converts dtypes.",
        )
        if strict:
            staged.discard()
            raise StateDictError(text)
        if warn:
            warn_user(text, StateWarning)
    staged.commit_with()
    return LoadResult.of(staged)


def save_states(
    root: Model, filename: FilePath, variables: Model = None, **setting: Any
):
    """Implements `Node.save_states`."""
    state = root if variables is None else state_dicts([variables])[0]
    checkpoints.save(filename, state, **setting)


def load_states(
    root: Model, filename: FilePath, verbose: bool, *, strict: bool, cast: bool
) -> LoadResult:
    """Implements `Node.load_states`."""
    _, staged = checkpoints.restore_and_compare(
        filename, root, strict=strict, cast=cast
    )
    result = LoadResult.of(staged[""])
    if verbose:
        count = len(root.state_dict()) - len(result.missing)
        numbers = [
            f"{path}: {new} of the file, {old} before"
            for path, (old, new) in result.numbers.items()
        ]
        lines = [f"{filename}: loaded {count} arrays", *result.lines(), *numbers]
        print("\n".join(lines))  # noqa: T201
    return result
