# SPDX-License-Identifier: Apache-2.0
"""Packing: small Variables that cross the border of a program as one flat array.

**How it works.** An optimizer with ``pack=True`` names lists of Variables that it moves
as one array: the weights, and each kind of slot. The donating form of a program takes
each list as one flat array and returns one. Between steps the flat arrays stay with the
program, in its resident state. A read or a write from outside makes separate arrays of
them, and the next step joins these again. So outside of a step nothing is packed:
names, files, devices and values are what they are without.

XLA compiles a kernel for each slice with a constant offset, and one for all slices of a
shape whose offset is a number that it is given. So a program whose trace uses many
slices is made again, with offsets as inputs; an update alone uses none.

**What must never happen.** A flat array of values that differ in place or dtype. A
program that concatenates what was not computed as one array: XLA is slow with it, so
such a program is made again without packs.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from ... import runtime
from ..._typing import Array
from ...runtime import Cell, Effects, flat_of, joined, sliced, storage
from ._placement import places
from ._retrace import unpacked

_MANY = 32
"""The slices in a trace from which on offsets are inputs; see docs/decisions/0012."""


class Packing:
    """The lists of Variables that one program takes as flat arrays.

    Args:
        packs: lists of Variables.
        donated: the Variables of the program that may be packed.
        effects: those of its function.

    Attributes:
        order: the same Variables, those of the packs first.
        count: the number of Variables in packs.
        offsets: where values begin in the flat arrays, if those are to be inputs.
    """

    __slots__ = (
        *("_avals", "_effects", "_ends", "_shapes", "_starts"),
        *("count", "offsets", "order"),
    )

    def __init__(
        self,
        packs: Iterable[tuple[Cell, ...]],
        donated: Sequence[Cell],
        effects: Effects,
    ):
        self._effects = effects
        free, chosen = set(donated), []
        for pack in packs:
            if free.issuperset(pack) and _fit_together(pack):
                chosen.append(pack)
                free.difference_update(pack)
        packed = tuple(chain.from_iterable(chosen))
        self.order = (*packed, *(v for v in donated if v in free))
        self.count = len(packed)
        self._avals = [_aval(runtime.read(v)) for v in packed]
        self._shapes = [[runtime.read(v).shape for v in pack] for pack in chosen]
        ends = [0]
        for pack in chosen:
            ends.append(ends[-1] + len(pack))
        self._ends = list(pairwise(ends))
        self._starts = _starts(self._shapes) if effects.offsets else []
        self.offsets: tuple[Array, ...] = _beside(packed, self._starts)

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def join(self, values: tuple) -> tuple:
        """Return values in their order with those of each pack joined.

        Raises:
            UnknownVariables: somebody gave a Variable another shape or dtype.
        """
        if not self:
            return values
        if list(map(_aval, values[: self.count])) != self._avals:
            raise unpacked(self._effects)
        flat = [_join(values[start:end]) for start, end in self._ends]
        return (*flat, *values[self.count :])

    def slices(self, values: tuple, offsets: tuple) -> tuple[tuple, bool]:
        """Undo `join` inside the trace of the program; return whether they are joined.

        The forms of a program that donate nothing take all values by themselves.

        Args:
            values: what `join` returned, or values in their order.
            offsets: the inputs that `offsets` became.
        """
        if len(values) == len(self.order):
            return values, False
        pairs = zip(values, self._shapes, strict=False)
        at = dict(zip(self._starts, offsets, strict=True))
        cut = [sliced(flat, shapes, at) for flat, shapes in pairs]
        return (*chain.from_iterable(cut), *values[len(cut) :]), True

    def cuts_much(self, jaxpr: Any) -> bool:
        """Whether the program with joined values should take offsets as inputs."""
        if self._starts or not self._shapes:
            return False
        return _cuts(jaxpr, len(self._shapes)) >= _MANY

    def results(self, values: Sequence[Any]) -> list[Any]:
        """Return new values as `join` does.

        Raises:
            UnknownVariables: those of a pack were not computed as one array.
        """
        flat = [flat_of(values[start:end]) for start, end in self._ends]
        if any(array is None for array in flat):
            raise unpacked(self._effects)
        return [*flat, *values[self.count :]]

    def resident(self, written: Sequence[Cell], program: Any) -> storage.ResidentState:
        """Return the residence of the values of ``written``, which begin with `order`.

        A program that is dropped must not take the last values with it.
        """
        if not self:
            state = storage.ResidentState(written)
            weakref.finalize(program, state.close).atexit = False
            return state
        # To take flat arrays apart runs code of JAX, which the garbage collector must
        # not: the values wait for the next reader.
        packed = written[: self.count]
        return storage.ResidentState(written, packed, len(self._shapes), self._separate)

    def _separate(self, flats: tuple) -> tuple:
        """Undo `join` outside of a trace."""
        parts: list[Any] = []
        # Whoever reads may be inside another trace, where the parts would be tracers.
        with jax.ensure_compile_time_eval():
            for flat, shapes in zip(flats, self._shapes, strict=True):
                start = 0
                for shape in shapes:
                    parts.append(_cut(flat, start, shape))
                    start += parts[-1].size
        return tuple(parts)


def packing_of(
    effects: Effects, known: Iterable[Cell], donated: Sequence[Cell], aligned: bool
) -> Packing:
    """Return the packing of a program.

    Args:
        effects: of its function.
        known: the Variables it reads.
        donated: the Variables it writes that it may take.
        aligned: whether the user has aligned the places of its results.
    """
    # Places are given by Variable; and what is written but not donated has to return to
    # its Variable after each step, and with it everything else.
    packs = effects.packs or ()
    is_plain = len(donated) == len(effects.written) and not aligned
    if not is_plain or not all(v._native for v in (*donated, *known)):
        packs = ()
    if packs and runtime.has_place(places(donated)):
        packs = ()
    return Packing(packs, donated, effects)


def _fit_together(pack: Sequence[Cell]) -> bool:
    values = [runtime.read(variable) for variable in pack]
    if any(isinstance(value, jax.core.Tracer) for value in values):
        return False
    places = {(value.sharding, value.committed, value.dtype) for value in values}
    ((place, *_), *others) = places
    return not others and isinstance(place, SingleDeviceSharding)


def _starts(packs: Iterable[Sequence[tuple[int, ...]]]) -> list[int]:
    """Return where the values of packs begin; packs of equal shapes share that."""
    found: set[int] = set()
    for shapes in packs:
        found.update(accumulate(map(math.prod, shapes[:-1]), initial=0))
    return sorted(found)


def _beside(packed: Sequence[Cell], numbers: Iterable[int]) -> tuple[Any, ...]:
    """Return numbers as arrays in the place of the values that are packed."""
    if not packed:
        return ()
    value = runtime.read(packed[0])
    place = value.sharding if value.committed else None
    # Unsigned, so that JAX does not ask at each slice whether to count from the end.
    with jax.ensure_compile_time_eval():
        return tuple(jax.device_put(np.uint32(n), place) for n in numbers)


def _cuts(jaxpr: Any, count: int) -> int:
    """Return how many slices of its first inputs a jaxpr uses."""
    flat, cut, shaped = set(jaxpr.invars[:count]), [], {}
    used = {v for v in jaxpr.outvars if not hasattr(v, "val")}  # others are literals
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not hasattr(v, "val")]
        name, source = equation.primitive.name, next(iter(inputs), None)
        if name == "slice" and source in flat:
            cut.append(equation.outvars[0])
        elif name == "reshape":
            shaped[source] = equation.outvars[0]
        else:
            used.update(inputs)
    return sum(v in used or shaped.get(v) in used for v in cut)


def _aval(value: Array) -> tuple:
    return value.shape, value.dtype


def _join(values: tuple) -> Any:
    devices = values[0].devices()  # several in `jax.set_mesh`
    device = next(iter(devices))
    if len(devices) > 1 or device.platform != "cpu":
        return _join_there(values)
    # Without a compilation, which would take as long as that of the step.
    flat = np.concatenate([np.ravel(value) for value in values])
    place = values[0].sharding if values[0].committed else None
    with jax.ensure_compile_time_eval(), jax.default_device(device):
        return jax.device_put(flat, place)


@jax.jit
def _join_there(values: tuple) -> Any:
    return joined(values)


def _cut(flat: Array, start: int, shape: tuple[int, ...]) -> Any:
    try:
        return _cut_at(flat, start, shape)
    except RuntimeError:
        # A step that failed has taken the flat array with it, or has left an error in
        # its place. What was in it is lost too, as it would be without packing.
        part = jnp.zeros(shape, flat.dtype)
        part.delete()
        return part


@functools.partial(jax.jit, static_argnums=2)
def _cut_at(flat: Array, start: Array, shape: tuple[int, ...]) -> Any:
    # The offset is an input: one compilation serves all slices of a shape.
    part = jax.lax.dynamic_slice(flat, (start,), (math.prod(shape),))
    return part.reshape(shape)
