# SPDX-License-Identifier: Apache-2.0
"""Views: a part of a Variable that reads and writes through to it."""

from __future__ import annotations

import jax

from .._typing import Index, PyTree
from ..runtime import exclusive
from ._operators import ArrayLike
from ._value import describe, fit
from ._variable import Variable


class VariableView(ArrayLike):
    """A live window on part of a Variable; not collected by ``vars()``.

    Args:
        target: the Variable.
        index: what ``target.value[index]`` takes.

    Example:
        >>> import brainopt as bo
        >>> v = bo.Variable([1.0, 2.0, 3.0])
        >>> view = bo.VariableView(v, slice(0, 2))
        >>> view *= 2
        >>> v.value.tolist()
        [2.0, 4.0, 3.0]
    """

    __slots__ = ("index", "target")

    def __init__(self, target: Variable, index: Index):
        if not isinstance(target, Variable):
            raise TypeError(f"{type(target).__name__} is no Variable.")
        self.target = target
        self.index = index

    @property
    def label(self) -> str:
        """The name of this view in errors."""
        return f"{self.target.label}[{self.index!r}]"

    @property
    def value(self) -> jax.Array:
        """The viewed part; assignment keeps its shape and dtype."""
        return self.target.value[self.index]

    @value.setter
    def value(self, new: PyTree) -> None:
        # The whole Variable is written: a trace sees Variables, not parts of them.
        fitted = fit(new, self.value, None, self.label)
        with exclusive():
            self.target.value = self.target.value.at[self.index].set(fitted)

    def __repr__(self) -> str:
        return f"VariableView({self.label}, {describe(self.value)})"
