# SPDX-License-Identifier: Apache-2.0
"""Rules: the axes along which a mapping transform splits Variables over its lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

from .._typing import Model, PyTree
from ..core import ForeignVariable, Node, RandomState, Variable, find, take_apart
from ..errors import VariableError, message
from ..runtime import (
    Cell,
    Effects,
    Frame,
    foreign_kinds,
    read,
    read_outside,
    unrecorded,
)
from ._lift import Bindings, Run
from ._packed import nodes_in

SHARED = None
"""The rule of a Variable that all lanes see whole."""


class Rules:
    """The rule of each Variable: an axis, a PartitionSpec, or None for shared.

    Args:
        source: a mapping, or pairs, from a Variable, Node, collector, state or model of
            a host, kind of Variable or of state, or list of these to a rule. Later
            entries win over earlier ones, a Variable over its kind, and a kind over the
            kinds it derives from.
        arguments: the Nodes among the arguments, with the rule of each.
    """

    def __init__(self, source: Model, arguments: Iterable[tuple[Node, Any]] = ()):
        self.exact: dict[Cell, Any] = {}
        self._kinds: dict[type, Any] = {}
        pairs = source.items() if isinstance(source, Mapping) else source or ()
        for node, rule in arguments:
            if rule is not SHARED:
                # Refuses one that holds models of hosts: which axis is theirs?
                with unrecorded():
                    self._add(take_apart(node)[1], rule)
        for target, rule in pairs:
            self._add(target, rule)

    def _add(self, target: Any, rule: Any) -> None:
        if isinstance(target, Variable):
            self.exact[target] = rule
        elif isinstance(target, type) and issubclass(target, _kinds()):
            self._kinds[target] = rule
        elif isinstance(target, Node):
            self._add(target.vars(), rule)
        elif isinstance(target, Mapping):
            # The random state of a framework is no part of a model: lanes draw apart.
            foreign = (v for v in target.values() if isinstance(v, ForeignVariable))
            shared = {id(v) for v in foreign if v._draws}
            self._add([v for v in target.values() if id(v) not in shared], rule)
        elif isinstance(target, list | tuple):
            for item in target:
                self._add(item, rule)
        elif (found := find(target)) is not None:  # a state or a model of a host
            self._add(list(found.values()), rule)
        else:
            raise TypeError(
                message(
                    f"A {type(target).__name__} has no rule to be mapped by.",
                    help="give Variables, Nodes, models, collectors, or kinds of "
                    "Variables or of states.",
                )
            )

    def of(self, variable: Cell) -> Any:
        """Return the rule of ``variable``; `SHARED` where there is none."""
        if variable in self.exact:
            return self.exact[variable]
        # From the class itself upwards, so the nearest kind wins.
        kinds = type(variable).__mro__
        if isinstance(variable, ForeignVariable):
            kinds = *type(variable.owner).__mro__, *kinds
        for kind in kinds:
            if kind in self._kinds:
                return self._kinds[kind]
        return SHARED

    def splits(self, variable: Cell) -> bool:
        """Whether each lane gets random numbers of its own from ``variable``."""
        # A rule for it, for its kind, or for a kind above is the user's choice, even
        # where it says "shared".
        return (
            variable._draws
            and variable not in self.exact
            and self.of(variable) is SHARED
            and not any(issubclass(RandomState, kind) for kind in self._kinds)
        )

    def maps(self, variable: Cell) -> bool:
        """Whether the lanes see different values of ``variable``."""
        return self.of(variable) is not SHARED or self.splits(variable)

    def mapped(self) -> list[Cell]:
        """Return the Variables known to be mapped before the function has run."""
        # Those given one by one. Which Variables a rule for a kind concerns is known
        # only when they are read.
        return [v for v, rule in self.exact.items() if rule is not SHARED]


def _kinds() -> tuple[type, ...]:
    return (Variable, *foreign_kinds())


def of_nodes(rules: Any, tree: PyTree) -> Iterator[tuple[Node, Any]]:
    """Yield each Node of the arguments with its rule.

    Args:
        rules: of all arguments, or a tree of rules that begins as ``tree`` does.
        tree: the arguments.
    """
    if isinstance(tree, Node):
        yield tree, rules
    elif rules is None or isinstance(rules, int | jax.sharding.PartitionSpec):
        for node in nodes_in(tree):
            yield node, rules
    elif isinstance(rules, Mapping):
        for key, rule in rules.items():
            yield from of_nodes(rule, tree[key])
    elif isinstance(rules, tuple | list):
        for rule, part in zip(rules, tree, strict=False):
            yield from of_nodes(rule, part)


class Chosen:
    """A choice of Variables: all, none, or those that are named as for `Rules`.

    Args:
        source: True, False, or Variables, Nodes, models, kinds, or lists of these.
    """

    def __init__(self, source: Model):
        self._all = source is True
        named = () if isinstance(source, bool) or source is None else [(source, True)]
        self._rules = Rules(named)

    def has(self, variable: Cell) -> bool:
        """Whether ``variable`` is among them."""
        return self._all or self._rules.of(variable) is not SHARED


class MappedFrame(Frame):
    """One lane; a Variable that should have been mapped is listed as missing.

    Args:
        bindings: the lane's value of each Variable known to be mapped.
        effects: those of an earlier run.
        rules: which Variables are mapped.
        lane: ``(value, rule) -> value`` of the shape a lane sees, to go on with.
    """

    def __init__(
        self, bindings: Bindings, effects: Effects, rules: Rules, lane: Callable
    ):
        super().__init__(bindings, effects)
        self.rules = rules
        self.lane = lane

    def read(self, variable: Cell) -> Any:
        """Return what this lane sees."""
        if variable in self.values:
            return self.values[variable]
        return self.bind(variable, read_outside(self.parent, variable))

    def bind(self, variable: Cell, value: PyTree) -> Any:
        """Return what this lane sees of a Variable that it reads for the first time."""
        # The value stands in with the right shape, so that the run goes on and finds
        # the other Variables; its results are not used.
        if self.rules.maps(variable):
            self.missing[variable] = None
            if not self.rules.splits(variable):
                rule = self.rules.of(variable)
                # Made in the trace that asks, so it may not be kept for another.
                value = jax.tree.map(lambda x: self.lane(x, rule), value)
        return value

    def write(self, variable: Cell, value: PyTree) -> None:
        """Set what this lane sees."""
        if variable not in self.values and self.rules.maps(variable):
            self.missing[variable] = None
        super().write(variable, value)


class MappedRun(Run):
    """One run of a function in a lane.

    Attributes:
        mapped: Variables that the lanes see differently.
    """

    __slots__ = ("mapped",)

    def __init__(
        self,
        function: Callable,
        args: Sequence[PyTree],
        kwargs: dict[str, PyTree],
        bindings: Bindings,
        effects: Effects,
        rules: Rules,
        lane,
    ):
        known = dict(bindings)
        with MappedFrame(known.items(), effects, rules, lane) as frame:
            self._run(frame, function, args, kwargs)
            # A Variable created in the lane ends with it, whatever its kind.
            missing = [v for v in frame.missing if v not in frame.created_here]
        self.mapped = tuple(dict.fromkeys((*known, *missing)))


def fork(variables: Iterable[Cell]) -> tuple[dict, dict]:
    """Return a key for the lanes, and the next key, of each RandomState."""
    lanes: dict[Cell, Any] = {}
    after: dict[Cell, Any] = {}
    # One split for all lanes, each of which folds in its number: the key that remains
    # does not depend on how many lanes there are.
    for variable in variables:
        after[variable], lanes[variable] = jax.random.split(read(variable))
    return lanes, after


def refuse(where: str, variables: Sequence[Cell], help: str) -> None:
    """Raise `VariableError` if any Variable was written differently by the lanes."""
    if variables:
        raise VariableError(
            message(
                f"These Variables get a different value in each {where}, and no rule "
                f"says how to keep them:",
                [variable.label for variable in variables],
                help,
            )
        )
