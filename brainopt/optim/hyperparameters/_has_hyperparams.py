# SPDX-License-Identifier: Apache-2.0
"""Nodes with hyperparameters: what optimizers' groups, schedules and averages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ..._typing import PyTree, Values
from ...core import Node
from ...runtime import Revision
from ._declared import Declared, Declaring
from ._fields import Number
from ._names import absent
from ._numbers import HyperparamVector, show

REVISION = "_changes"
"""The attribute in which a Node keeps its `revision`; it is not saved."""


@property
def revision(self: Any) -> Revision:
    """The count that compiled functions compare to see whether they still fit."""
    held = vars(self).get(REVISION)
    return vars(self).setdefault(REVISION, Revision()) if held is None else held


class HasHyperparams(Node, metaclass=Declaring):
    """A Node with hyperparameters: numbers that change without compiling.

    Its declared fields (see `_fields`) are the arguments of its constructor. Any other
    change of its attributes makes compiled functions that use it trace anew.
    """

    _declared: ClassVar[Declared]
    _revision = revision

    def __init__(self, name: str | None = None):
        super().__init__(name)

    def _keep_numbers(self, values: Values, owner: str = "") -> None:
        """Keep declared numbers in one vector, each in the range of its field."""
        fields = self._declared.of(Number)
        decays = [name for name in values if fields[name].is_decay]
        ranges = {name: field.range for name, field in fields.items()}
        owner = owner or type(self).__name__
        self.numbers = HyperparamVector(values, decays, owner, ranges)

    @property
    def _settings(self) -> Any:
        """The source of the values of its fields: its numbers."""
        return vars(self)["numbers"]

    def _check_attribute(self, key: str, value: PyTree) -> None:
        # Declared fields write into the vector, an input of each program. Every other
        # attribute is Python that a program has baked in.
        if key not in self._declared.fields:
            self._revision.note(key, value)

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in super()._pytree_attributes() if k != REVISION)

    _fits_a_line = True
    _resets = False

    def __getattr__(self, name: str) -> Any:
        raise absent(self, name)

    def __repr__(self) -> str:
        numbers: HyperparamVector | None = vars(self).get("numbers")
        names = () if numbers is None else numbers.names
        shown = [f"{n}={show(numbers.number(n))}" for n in names if numbers is not None]
        return f"{type(self).__name__}({', '.join([*self._shown_first(), *shown])})"

    def _shown_first(self) -> list[str]:
        """Return what is shown before the numbers."""
        return []
