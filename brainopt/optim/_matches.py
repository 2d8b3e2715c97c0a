# SPDX-License-Identifier: Apache-2.0
"""What is remembered to match gradients with variables quickly.

An eager step pays for each look at each array. So what fitted once is compared as a
whole with what comes next, by calls into C: the names, and the avals of JAX, which are
the same objects where the same compiled function computed the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax

from .._typing import Gradients
from ..core import Variable
from ..runtime import read

_avals = attrgetter("aval")


class _Fit(NamedTuple):
    """Gradients that fitted, one array for each variable.

    Attributes:
        names: their keys; of a list their number.
        types: of the arrays, none of which was traced.
        avals: shapes and dtypes.
        order: the place of the gradient of each variable.
    """

    names: Any
    types: set[type]
    avals: list[Any]
    order: list[int]


class Matches:
    """The kinds of some variables, and the last gradients that fitted them.

    Args:
        variables: by path.

    Attributes:
        variables: the same.
        kinds: shape and dtype of each variable that keeps both. To read its value would
            take it from the step that computed it, which is slow.
    """

    def __init__(self, variables: Mapping[str, Variable]):
        self.variables = variables
        self.kinds = {path: _kind(v) for path, v in variables.items()}
        self._last: _Fit | None = None

    def again(self, grads: Gradients) -> dict[str, Any] | None:
        """Return ``{path: gradient}`` of gradients like the last; None for others."""
        if (last := self._last) is None or (flat := _flat(grads)) is None:
            return None
        names, arrays = flat
        if (
            names != last.names
            or set(map(type, arrays)) != last.types
            or list(map(_avals, arrays)) != last.avals
        ):
            return None
        ordered = map(arrays.__getitem__, last.order)
        return dict(zip(self.variables, ordered, strict=True))

    def note(self, grads: Gradients, matched: Mapping[str, Any]) -> None:
        """Remember gradients that were matched, each an array like its variable."""
        if (flat := _flat(grads)) is None:
            return
        names, arrays = flat
        places = {id(array): place for place, array in enumerate(arrays)}
        order = [places.get(id(gradient), -1) for gradient in matched.values()]
        # One array for two names does not say whose gradient it was, and what is below
        # a branch has no place.
        if sorted(order) == list(range(len(arrays))):
            types, avals = set(map(type, arrays)), list(map(_avals, arrays))
            self._last = _Fit(names, types, avals, order)


def _flat(grads: Any) -> tuple[Any, Sequence[Any]] | None:
    """Return the names and arrays of a dict or list without branches."""
    # No subclass: what a named tuple or a mapping of others means is asked elsewhere.
    if type(grads) not in (dict, list, tuple):
        return None
    if isinstance(grads, dict):
        return tuple(grads), tuple(grads.values())
    return len(grads), grads


def _kind(variable: Variable) -> jax.ShapeDtypeStruct | None:
    if not variable._native or variable.batch_axis is not None:
        return None
    value = read(variable)
    is_array = isinstance(value, jax.Array)
    return jax.ShapeDtypeStruct(value.shape, value.dtype) if is_array else None
