# SPDX-License-Identifier: Apache-2.0
"""What derivatives are taken by: Variables, and the structure of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Model, PyTree
from ..core import Variable, train_vars_of, wrap
from ..errors import GradientError, message
from ..runtime import read


class Targets:
    """The Variables to differentiate by, and the structure the result gets.

    Args:
        source: a Variable, a list or tuple or dict of them, a collector, or a Node
            (each `TrainVar`). A Variable that stands twice gets its gradient twice.
    """

    def __init__(self, source: Model):
        source = wrap(source)
        if isinstance(source, list | tuple):
            source = type(source)(map(wrap, source))
        if isinstance(source, Variable):
            self.tree, self.variables = jax.tree.structure(0), [source]
        elif isinstance(source, list | tuple) and all(
            isinstance(item, Variable) for item in source
        ):
            self.tree = jax.tree.structure([0] * len(source))
            self.variables = list(source)
        else:
            found = train_vars_of(source)
            keys = sorted(found)
            self.tree = jax.tree.structure(dict.fromkeys(keys, 0))
            self.variables = [found[key] for key in keys]
        # One input for each Variable: of two, only the last would be bound, and the
        # gradient by the other would be zero.
        self.unique = list(dict.fromkeys(self.variables))

    def arrange(self, gradients: Sequence[PyTree]) -> Any:
        """Return the gradients of the unique Variables in the source's structure."""
        by_variable = dict(zip(self.unique, gradients, strict=True))
        return jax.tree.unflatten(self.tree, [by_variable[v] for v in self.variables])

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
