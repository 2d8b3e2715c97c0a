# SPDX-License-Identifier: Apache-2.0
"""The models of an optimizer, compared with what it trains after they have changed.

Gradients are matched by name. Where a layer was replaced, those of the new one would
move the weights of the old one, without a word.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import runtime
from .._compat import is_eager
from .._typing import Model
from .._warnings import warn_user
from ..core import Node, Variable, find, is_atom, join, train_vars_of
from ..errors import TrainingWarning, message
from ..runtime import Facts, changes, dict_of


class _Given(NamedTuple):
    """A Node or a foreign model, and what it had to train when it was given.

    It is held weakly: an optimizer needs its Variables alone.
    """

    path: str
    model: weakref.ref
    had: frozenset[Variable]

    def trains(self) -> dict[Variable, str]:
        """Return what the model has to train now, with its path in the optimizer."""
        model = self.model()
        found = {} if model is None else train_vars_of(model)
        return {variable: join(self.path, path) for path, variable in found.items()}


class Models:
    """The Nodes and models that were given to an optimizer."""

    def __init__(self):
        self._given: list[_Given] = []
        self._told: set[str] = set()

        here = weakref.ref(self)

        # It may run wherever Python collects garbage, also while it shuts down, when
        # the names of modules are gone.
        def gone(_: object) -> None:
            models = here()
            if models is not None:
                models._count = models._facts = None
                models._parts = []

        self._gone = gone
        self._follow()

    def add(self, source: Model) -> None:
        """Follow the Nodes and models in what was registered."""
        for path, model in _models_in(source, ""):
            had = frozenset(train_vars_of(model).values())
            try:
                ref = weakref.ref(model, self._gone)
            except TypeError:  # a class with slots, which nothing can follow
                continue
            self._given.append(_Given(path, ref, had))
        self._follow()

    def compare_if_changed(self, optimizer: Any, seldom: bool = False) -> None:
        """Warn of what is trained and gone, and of what is there and not trained.

        Args:
            optimizer: whose models these are.
            seldom: whether this call is one of few. Then models of other frameworks are
                compared in any case: nobody counts their changes. So is it in a trace.
        """
        is_counted = len(self._given) == self._nodes or (is_eager() and not seldom)
        if self._given and not (is_counted and self._is_as_before()):
            with runtime.unrecorded():
                self._follow()
                self._warn(optimizer)

    def _is_as_before(self) -> bool:
        count = changes.count
        if self._facts is None:  # one of the models is gone
            return False
        same = self._facts.same_items()
        if same and self._count != count:
            with runtime.unrecorded():
                same = all(_holds(node, held) for node, held in self._parts)
            self._count = count
        return same

    def _follow(self) -> None:
        self._given = [given for given in self._given if given.model() is not None]
        self._count: int | None = changes.count
        facts = Facts()
        self._parts: list[tuple[weakref.ref, dict[str, Any]]] = []
        models = [given.model() for given in self._given]
        nodes = [model for model in models if isinstance(model, Node)]
        self._nodes = len(nodes)
        for root in nodes:
            for node in root.nodes().values():
                parts = _parts_of(node)
                self._parts.append((weakref.ref(node), parts))
                for name in parts:
                    facts.read(node, name)
        facts.close()
        self._facts: Facts | None = facts

    def _warn(self, optimizer: Any) -> None:
        trained = {v: path for path, v in optimizer._trained.variables.items()}
        had = {v for given in self._given for v in given.had}
        there: dict[Variable, str] = {}
        for given in self._given:
            there = {**given.trains(), **there}
        lines = [
            f"{trained[v]}: trained, and no longer there"
            for v in trained
            if v in had - there.keys()
        ]
        lines += [
            f"{path}: there, and not trained"
            for variable, path in there.items()
            if variable not in trained and variable not in had
        ]
        lines = [line for line in lines if line not in self._told]
        if not lines:
            return
        self._told.update(lines)
        warn_user(
            message(
                f"The model of this {type(optimizer).__name__} has changed since it "
                "was made:",
                lines,
                "make the optimizer anew, or, for what was added, call "
                "`opt.register_train_vars(node)`.",
            ),
            TrainingWarning,
        )


def _models_in(source: Model, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(source, Variable):
        return
    if isinstance(source, Node) or find(source) is not None:
        yield path, source
    elif isinstance(source, dict | list | tuple):
        items = source.items() if isinstance(source, dict) else enumerate(source)
        for key, item in items:
            yield from _models_in(item, join(path, str(key)))


def _parts_of(node: Node) -> dict[str, Any]:
    """Return the attributes of a Node that may own something; no flag and no array."""
    return {k: v for k, v in dict_of(node).items() if not is_atom(v)}


def _holds(ref: weakref.ref, parts: dict[str, Any]) -> bool:
    node = ref()
    if node is None:
        return True
    now = _parts_of(node)
    return len(now) == len(parts) and all(now.get(k) is v for k, v in parts.items())


def models_of(optimizer: Any) -> Models:
    """Return those of an optimizer; a copy of one begins with none."""
    held = vars(optimizer)
    if "_models" not in held:
        held["_models"] = Models()
    return held["_models"]
