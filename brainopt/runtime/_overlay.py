# SPDX-License-Identifier: Apache-2.0
"""Overlays: the values that Variables have inside one run of a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._typing import PyTree
from ._cell import Cell
from ._effects import Effects
from ._revisions import Revision
from ._watches import Watch


class Expired:
    """Marker in the slot of a Variable that ended with the trace it was created in.

    Attributes:
        where: the line of code that created the Variable.
    """

    __slots__ = ("where",)

    def __init__(self, where: str):
        self.where = where


class Overlay:
    """The values of Variables inside one run, and what the run did so far.

    Args:
        bindings: the value of each Variable known to the transform.
        sealed: whether values of unknown Variables may not be closed over (the body
            of ``jit``, whose trace outlives its surroundings); they are listed in
            ``missing``.

    Attributes:
        trace: the JAX trace that the run belongs to, once it has begun.
        values: the value of each Variable inside this run.
        reads: the Variables read so far.
        written: the Variables written so far, in order.
        missing: the Variables that the transform did not know.
        created_here: the Variables that this run created, each with what stands in it
            afterwards.
        inner: the effects of the transforms called so far.
        packs: lists of Variables that could be one flat array.
        revisions: what the run depends on beside Variables, with its count then.
        watches: what to look at between runs of what is compiled.
    """

    __slots__ = (
        "created_here",
        "inner",
        "missing",
        "packs",
        "reads",
        "revisions",
        "sealed",
        "trace",
        "values",
        "watches",
        "written",
    )

    def __init__(
        self, bindings: Iterable[tuple[Cell, PyTree]] = (), *, sealed: bool = False
    ):
        self.values: dict[Cell, Any] = dict(bindings)
        self.sealed = sealed
        self.trace: Any = None
        self.reads: set[Cell] = set()
        self.written: dict[Cell, None] = {}
        self.missing: dict[Cell, None] = {}
        self.created_here: dict[Cell, Expired] = {}
        self.inner: list[Effects] = []
        self.packs: list[tuple[Cell, ...]] = []
        self.revisions: list[tuple[Revision, int]] = []
        self.watches: list[Watch] = []

    def has(self, variable: Cell) -> bool:
        """Whether this run was given the value of a Variable, or set it."""
        others = variable in self.missing or variable in self.created_here
        return variable in self.values and not others

    def bind(self, variable: Cell, value: PyTree) -> Any:
        """Return what this run sees of a Variable that it reads for the first time.

        Args:
            variable: not in ``values``.
            value: what the surroundings see.
        """
        if self.sealed:
            # Bound nevertheless: the run goes on to its end and lists all that is
            # missing, so that the function is traced once more and not once for each.
            self.missing[variable] = None
            self.values[variable] = value
        return value

    def write(self, variable: Cell, value: PyTree) -> None:
        """Set the value of ``variable`` inside this run."""
        if self.sealed and variable not in self.values:
            self.missing[variable] = None
        self.values[variable] = value
        if variable not in self.created_here:
            self.written[variable] = None
