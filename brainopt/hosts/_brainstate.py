# SPDX-License-Identifier: Apache-2.0
"""The host of brainstate, brainpy (from 2.7 on), brainpy.state and braintools.

A brainpy Variable is a brainstate State since 2.7, so one host covers all of them.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._typing import Foreign, Model, PyTree
from ..core import (
    ForeignVariable,
    Found,
    Host,
    Node,
    TrainVar,
    Variable,
    initial,
    is_constant,
    is_weak,
    join,
    plain,
)
from ..errors import HostError, message
from ..runtime import Expired, add_tracker
from ._brainpy_roots import paths_in_model
from ._brainstate_names import counted, named, structural, undashed
from ._brainstate_tracker import BrainstateTracker, Raw


class StateVariable(ForeignVariable):
    """A brainstate State as a Variable."""

    __slots__ = ("raw",)

    def __init__(self, host: BrainstateHost, owner: Foreign):
        super().__init__(host, owner)
        self.raw = Raw(owner)
        _normalize(self.raw, host.trainable(owner))

    _direct = True

    @property
    def fallible(self) -> bool:
        """Whether Python code, which may fail, runs when its value is stored."""
        return self.host.hooked(self.owner)

    @property
    def stores_in_c(self) -> bool:
        """Whether storing its value is one call into C."""
        return self.raw.in_c

    def _committed(self) -> Any:
        value = self.raw.get()
        # brainstate has a mark of its own for values that ended with their trace.
        ended = type(value).__name__ in ("Expired", "_InvalidatedTraceValue")
        return Expired("a transformed function") if ended else value

    def _store(self, value: PyTree) -> None:
        self.raw.set(value)

    def _getter(self) -> Callable[[], Any]:
        return self.raw.get

    def _setter(self) -> Callable[[Any], None]:
        # Hooks are called by the property; they are Python, and may refuse the value.
        if self.fallible:
            return functools.partial(setattr, self.owner, "value")
        return self.raw.set

    def _read(self) -> Any:
        if type(self._committed()) is Expired:
            return self._committed()
        return self.owner.value

    def _write(self, value: PyTree) -> None:
        self.owner.value = value


class StateTrainVar(StateVariable, TrainVar):
    """A ParamState or brainpy TrainVar as a Variable."""

    __slots__ = ()


class StateRandom(StateVariable):
    """A random state of brainstate as a Variable."""

    __slots__ = ()

    _draws = True


def _normalize(raw: Raw, trained: bool) -> None:
    """Give a lazy random key, or a parameter, its lasting form.

    A parameter may be a Python number, or of a weak type, which it would lose in the
    first step; then the second would compile again.
    """
    loose = (np.ndarray, np.generic)

    def is_loose(leaf: Foreign):
        weak = trained and is_weak(leaf) and not isinstance(leaf, Tracer)
        return isinstance(leaf, loose) or weak

    leaves, tree = jax.tree.flatten(raw.get())
    if not any(map(is_loose, leaves)):
        return
    with jax.ensure_compile_time_eval():
        if isinstance(raw.get(), np.ndarray) and hasattr(raw.state, "check_if_deleted"):
            raw.state.check_if_deleted()
        leaves = [initial(jnp.array(x), None) if is_loose(x) else x for x in leaves]
        raw.set(jax.tree.unflatten(tree, leaves))


class BrainstateHost(Host):
    """Finds the states of brainstate modules and of brainpy objects."""

    package = "brainstate"
    families = ("brainstate", "brainpy", "brainpy_state", "braintools")
    minimum = "0.2.10"
    tracks = True

    def wake(self) -> None:
        """Add the tracker, which every frame asks."""
        import brainstate

        context = getattr(sys.modules["brainstate._state"], "TRACE_CONTEXT", None)
        for name in ("state_stack", "new_state_catcher"):
            if not hasattr(context, name):
                raise HostError("it keeps its traces elsewhere than brainopt knows.")
        self.State = brainstate.State
        self._params = brainstate.ParamState
        self._module = brainstate.nn.Module
        self._reset_all = brainstate.nn.reset_all_states
        self._hooks = brainstate.GlobalHookRegistry.instance()
        self.random = brainstate.random.RandomState
        self._by_key: weakref.WeakValueDictionary[str, ForeignVariable] = (
            weakref.WeakValueDictionary()
        )
        tracker = BrainstateTracker(
            self, context, brainstate.LongTermState, self.random
        )
        add_tracker(tracker, brainstate.State)

    def trainable(self, owner: Foreign) -> bool:
        """Whether it is a ParamState, or a TrainVar of brainpy."""
        # By name: brainpy, which has TrainVar, need not be imported.
        kinds = {kind.__name__ for kind in type(owner).__mro__}
        return isinstance(owner, self._params) or "TrainVar" in kinds

    def reset(self, model: Foreign, batch_size: int | None) -> None:
        """Set the state back by ``reset_state`` of brainpy or brainstate."""
        size = () if batch_size is None else (batch_size,)
        brainpy = sys.modules.get("brainpy")
        if isinstance(model, getattr(brainpy, "DynamicalSystem", ())):
            brainpy.reset_state(model, *size)  # type: ignore[union-attr]
        elif isinstance(model, self._module):
            self._reset_all(model, *size)
        else:
            super().reset(model, batch_size)

    def hooked(self, owner: Foreign) -> bool:
        """Whether hooks are called when it is written, which brainpy never does."""
        if type(owner).value is not self.State.value:
            return False
        return owner.has_hooks() or self._hooks.has_hooks()

    def _make(self, owner: Foreign) -> ForeignVariable:
        if _is_view(owner, self.State):
            raise HostError(
                message(
                    f"A {type(owner).__name__} has no value of its own.",
                    help="give the Variable that it looks at.",
                )
            )
        if isinstance(owner, self.random):
            return StateRandom(self, owner)
        kind = StateTrainVar if self.trainable(owner) else StateVariable
        return kind(self, owner)

    def find(self, obj: Model) -> Found | None:
        """Return the states of a module, of a collector, or of a single state."""
        if isinstance(obj, self.State):
            return Found({"": self.variable(obj)})
        if isinstance(obj, Mapping):
            return self._in_collector(obj)
        seen = _collected(obj)
        return None if seen is None else self._in_model(obj, seen)

    def constants(self, obj: Model) -> dict[str, Any]:
        """Return the arrays of a module, and of those below, that are no states."""
        found = _walk(obj, "", {}, self.State, arrays=True)
        return {path: array for path, x in found if is_constant(array := plain(x))}

    def resolve(self, key: str) -> Any:
        """Return the Variable of a living brainpy object that ``key`` names."""
        owner = named(key.partition(".")[0])
        if owner is not None:
            return owner.vars(level=0).get(key)
        variable = self._by_key.get(key)
        return None if variable is None else variable.owner

    def _in_collector(self, collector: Mapping[Any, Any]) -> Found | None:
        if not all(isinstance(item, self.State) for item in collector.values()):
            return None
        found = Found()
        paths = paths_in_model(collector, lambda obj: _walk(obj, "", {}, self.State))
        paths = paths or structural([_key(key) for key in collector])
        for (key, state), path in zip(collector.items(), paths, strict=True):
            variable = self.variable(state)
            found.paths.setdefault(variable, path)
            found[_key(key)] = variable
        return found.name_after(collector)

    def _in_model(self, model: Model, seen: dict[str, Any]) -> Found:
        found = Found()
        known = {id(state) for state in seen.values()}
        shared = _shared_random()
        paths: dict[int, str] = {}
        for path, state in _walk(model, "", {}, self.State):
            if id(state) in paths:
                continue
            paths[id(state)] = path
            if isinstance(state, Variable):
                found[path] = state
                continue
            if type(self.variable(state)._committed()) is Expired:
                continue  # it was made in a trace and ended with it
            if id(state) in known:
                found[path] = self.variable(state)
            elif self.trainable(state):
                found.unseen[path] = self.variable(state)
            elif state is not shared:
                # brainpy passes by its random states, and what a plain list holds.
                found[path] = self.variable(state)
        # What the framework collects and the walk did not reach keeps its key.
        for key, state in seen.items():
            if id(state) not in paths:
                paths[id(state)] = undashed(key)
                found[undashed(key)] = self.variable(state)
            self._by_key[key] = self.variable(state)
        return found.name_after(model)


class OldBrainpyHost(Host):
    """The host of a brainpy before 2.7, whose Variables are no states: it refuses."""

    package = "brainpy"
    minimum = "2.7"

    def find(self, obj: Model) -> None:
        """Leave the object to the host of brainstate."""
        return None


def _key(key: Any) -> str:
    return ".".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _collected(obj: Model) -> dict[str, Any] | None:
    """Return what the framework itself collects, by its own keys; None if no model."""
    if isinstance(obj, type):
        return None
    if callable(getattr(obj, "register_implicit_vars", None)):
        return dict(obj.vars(method="absolute").items())
    if callable(getattr(obj, "states", None)):
        return {_key(key): state for key, state in obj.states().items()}
    return None


def _walk(
    obj: Model, path: str, visited: dict[int, Any], kind: type, arrays: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield the states below ``obj``, and Variables of ours, each container once.

    With ``arrays`` that is the arrays which are no states.
    """
    if isinstance(obj, kind | Variable):
        if not arrays and not _is_view(obj, kind):
            yield path, obj
        return
    if arrays and (
        isinstance(obj, np.ndarray)
        or hasattr(obj, "__jax_array__")
        or isinstance(obj, jax.Array)
    ):
        yield path, obj
        return
    if isinstance(obj, dict):
        items = zip(counted(obj), obj.values(), strict=True)
    elif isinstance(obj, list | tuple):
        items = [(str(i), item) for i, item in enumerate(obj)]
    elif isinstance(obj, Node):
        items = list(obj._owned_attributes())
    elif isinstance(obj, type) or not _is_module(obj):
        return
    else:
        hidden = {"_implicit_vars", "_implicit_nodes"}
        items = [(k, v) for k, v in vars(obj).items() if k not in hidden]
        for registry in hidden & vars(obj).keys():
            held = getattr(obj, registry) or {}
            items += zip(structural(list(held)), held.values(), strict=True)
    if id(obj) in visited:
        return
    visited[id(obj)] = obj  # held, so that no other object can get its id
    for key, item in items:
        yield from _walk(item, join(path, key), visited, kind, arrays)


def _is_view(obj: Model, kind: type) -> bool:
    """Whether it shows a part of another state, as a VariableView of brainpy does."""
    return isinstance(obj, kind) and isinstance(Raw(obj).get(), kind)


def _is_module(obj: Model) -> bool:
    # A collector of brainstate raises a KeyError where it lacks an attribute.
    if isinstance(obj, Mapping):
        return False
    return hasattr(obj, "__dict__") and (
        callable(getattr(obj, "register_implicit_vars", None))
        or callable(getattr(obj, "states", None))
    )


def _shared_random() -> Any:
    random = getattr(sys.modules.get("brainstate"), "random", None)
    return getattr(random, "DEFAULT", None)


def random_state(model: Model, found: Any) -> StateVariable | None:
    """Return the random state that all models of the framework share.

    None if ``model`` is of another framework, is no module, or owns it.
    """
    shared = _shared_random()
    states = [v for v in found.values() if isinstance(v, StateVariable)]
    if shared is None or not states or not _is_module(model):
        return None
    variable = states[0].host.variable(shared)
    return None if any(v is variable for v in found.values()) else variable
