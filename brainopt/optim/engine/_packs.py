# SPDX-License-Identifier: Apache-2.0
"""Packs: parameters that an elementwise rule moves as one flat array.

A program may hold many small parameters, and each kind of their slots, as one flat
array (see `runtime._flat`). Where it does, the rule runs once for all of them. Where it
does not, as inside of a loop, the parameters move one by one, to the same values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._typing import Array, Arrays, Slots, StepCount, Values
from ...runtime import flat_of, joined, sliced
from ._rows import Rows
from ._step import Hypers, OneByOne

SMALL = 2**12
"""Elements up to which an array is packed; see docs/decisions/0012."""


@dataclasses.dataclass(frozen=True)
class Packed(OneByOne):
    """Moves the parameters of each pack together, and all others one by one.

    Args:
        packs: the paths of parameters with the same settings.
    """

    packs: Sequence[Sequence[str]] = ()

    def __call__(
        self,
        params: Arrays,
        slots: dict[str, Slots],
        grads: Values,
        hypers: Hypers,
        step: StepCount,
        present: Mapping[str, Any],
    ) -> tuple[dict, dict]:
        """Return all parameters and slots after one step."""
        moved: dict[str, Any] = {}
        for pack in self.packs:
            moved |= self._together(pack, params, slots, grads, hypers, step) or {}
        rest = {path: param for path, param in params.items() if path not in moved}
        new, new_slots = super().__call__(rest, slots, grads, hypers, step, present)
        whole = {path: (new[path], new_slots[path]) for path in rest} | moved
        return (
            {path: whole[path][0] for path in params},
            {path: whole[path][1] for path in params},
        )

    def _together(
        self, pack: Sequence[str], params, slots, grads, hypers, step
    ) -> dict[str, Any] | None:
        """Return ``{path: (parameter, slots)}``, or None where they are not one."""
        if not params.keys() >= set(pack):
            return None
        flat = flat_of([params[path] for path in pack])
        if flat is None or any(_is_no_array(grads[path]) for path in pack):
            return None
        names = packed_slots(params[pack[0]], slots[pack[0]])
        held = {n: flat_of([slots[path][n] for path in pack]) for n in names}
        if any(array is None for array in held.values()):
            return None
        group, hyper = hypers(pack[0], params[pack[0]])
        grad = joined([grads[path] for path in pack])
        view = hyper.for_pack(flat.shape)
        new, new_held = self._move(group, view, grad, flat, held, step, None)
        shapes = [params[path].shape for path in pack]
        values = sliced(new, shapes)
        parts = {name: sliced(new_held[name], shapes) for name in names}
        return {
            path: (values[i], {**slots[path], **{n: parts[n][i] for n in names}})
            for i, path in enumerate(pack)
        }


def packed_slots(param: Array, slots: Values) -> list[str]:
    """Return the names of the slots that have one number for each of a parameter."""
    return [name for name, slot in slots.items() if np.shape(slot) == param.shape]


def _is_no_array(grad: Any) -> bool:
    return grad is None or isinstance(grad, Rows)
