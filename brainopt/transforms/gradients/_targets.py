# SPDX-License-Identifier: Apache-2.0
"""Targets of derivatives: the Variables, and the structure of the result."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Model, PyTree
from ...core import Variable, train_vars_of, wrap
from ...errors import GradientError, message
from ...runtime import Cell, read


class Targets:
    """The Variables to differentiate by, and the structure the result gets.

    Lists, tuples and dicts of Variables keep their nesting and their order. A
    collector, a Node (each `TrainVar`) and a model get a dict by path, and so do
    containers that hold one of these.

    Args:
        source: one of these. A Variable that stands twice gets its gradient twice.

    Attributes:
        variables: each place of the structure, in order.
        names: the name of each place in errors.
        unique: each Variable once.
    """

    def __init__(self, source: Model):
        self.variables: list[Variable] = []
        self.names: list[str] = []
        source = wrap(source)
        if _holds_variables(source):
            self._structure = self._entered(source, "")
        else:
            self._structure = self._entered(dict(train_vars_of(source)), "")
        # One input for each Variable: of two, only the last would be bound, and the
        # gradient by the other would be zero.
        self.unique = list(dict.fromkeys(self.variables))

    def _entered(self, source: Model, path: str) -> Any:
        """Return ``source`` with the place of each Variable, and list them."""
        if isinstance(source, dict):
            return {
                key: self._entered(item, f"{path}.{key}" if path else str(key))
                for key, item in source.items()
            }
        if isinstance(source, list | tuple):
            items = enumerate(source)
            return type(source)([self._entered(x, f"{path}[{i}]") for i, x in items])
        # A leaf is the number of its place, so that gradients and tangents keep the
        # order of the source; JAX would sort the keys of dicts.
        variable = wrap(source)
        self.variables.append(variable)
        if path.startswith("["):
            path = f"grad_vars{path}: {variable.label}"
        self.names.append(path or variable.label)
        return len(self.variables) - 1

    def arrange(self, gradients: Sequence[PyTree]) -> Any:
        """Return the gradients of the unique Variables in the source's structure."""
        by_variable = dict(zip(self.unique, gradients, strict=True))

        def filled(place: Any) -> Any:
            if isinstance(place, dict):
                return {key: filled(item) for key, item in place.items()}
            if isinstance(place, list | tuple):
                return type(place)(map(filled, place))
            return by_variable[self.variables[int(place)]]

        return filled(self._structure)

    def parts(self, tree: Model) -> list[Any]:
        """Return what stands in ``tree`` for each of the unique Variables.

        Raises:
            GradientError: ``tree`` has another structure.
        """
        found: dict[Variable, Any] = {}

        def enter(place: Any, part: Any) -> None:
            if isinstance(place, int):
                found[self.variables[place]] = part
                return
            keyed = isinstance(place, dict)
            kind = dict if keyed else list | tuple
            if not isinstance(part, kind) or len(part) != len(place):
                raise GradientError(message(self._unlike(tree)))
            for key in place if keyed else range(len(place)):
                if keyed and key not in part:
                    raise GradientError(message(self._unlike(tree)))
                enter(place[key], part[key])

        enter(self._structure, tree)
        return [found[variable] for variable in self.unique]

    def _unlike(self, tree: Model) -> str:
        given = jax.tree.structure(tree)
        return f"{given} is not the structure of grad_vars: {', '.join(self.names)}."

    def unread(self, reads: Set[Cell]) -> list[str]:
        """Return the names of the targets that are not among the Variables read."""
        return [
            name
            for name, variable in zip(self.names, self.variables, strict=True)
            if variable not in reads and jax.tree.leaves(read(variable))
        ]

    def check(self, holomorphic: bool, allow_int: bool, forward: bool = False) -> None:
        """Raise `GradientError` naming every Variable of an unfit dtype.

        Args:
            holomorphic: only complex ones fit.
            allow_int: integer ones fit too.
            forward: only real ones fit, unless ``holomorphic``.
        """
        wanted = jnp.floating if forward else jnp.inexact
        wanted = jnp.complexfloating if holomorphic else wanted
        unfit = [
            f"{variable.label}: {leaf.dtype}"
            for variable in self.unique
            for leaf in jax.tree.leaves(read(variable))
            if not jnp.issubdtype(leaf.dtype, wanted)
            and not (allow_int and jnp.issubdtype(leaf.dtype, jnp.integer))
        ]
        if unfit:
            kind, more = "floating or complex", "; integer ones need `allow_int=True`"
            if forward:
                kind, more = "real floating", "; complex ones need `holomorphic=True`"
            if holomorphic:
                kind, more = "complex", ""
            raise GradientError(
                message(
                    f"These Variables have no {kind} dtype to differentiate by:",
                    unfit,
                    f"leave them out of `grad_vars`{more}.",
                )
            )


def _holds_variables(source: Model) -> bool:
    """Whether a source is made of nothing but Variables in plain containers."""
    if type(source) is dict:
        return all(map(_holds_variables, source.values()))
    if type(source) in (list, tuple):
        return all(map(_holds_variables, source))
    return isinstance(wrap(source), Variable)
