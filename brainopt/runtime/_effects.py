# SPDX-License-Identifier: Apache-2.0
"""Effects: the Variables that a run of a function touched, kept for its next run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._cell import Cell


class Effects:
    """Record of the Variables that one run of a function wrote or had to be given.

    A transform that is called inside another one looks here for what it did in the
    last run of the surrounding function. So only the first run discovers anything.

    Attributes:
        written: the Variables it wrote, in order of their first write.
        inner: the effects of the transforms called inside, in order of the calls.
        known: further Variables that the transform has to thread though it only
            reads them.
        packs: lists of Variables that the function may take as one flat array, see
            `_flat`; None where it cannot.
        offsets: whether it cuts flat arrays so often that a program should take the
            offsets as inputs.
    """

    __slots__ = ("inner", "known", "offsets", "packs", "written")

    def __init__(
        self,
        written: Iterable[Cell] = (),
        inner: Sequence[Effects] = (),
        known: Iterable[Cell] = (),
        packs: Iterable[tuple[Cell, ...]] | None = (),
        offsets: bool = False,
    ):
        self.written = tuple(written)
        self.inner = list(inner)
        self.known = tuple(known)
        self.packs = None if packs is None else tuple(dict.fromkeys(packs))
        self.offsets = offsets


def merge(*many: Effects) -> Effects:
    """Return the union of effects; those of inner transforms keep their order."""
    # Dicts as sets with an order: the values of a run are paired with its Variables by
    # position, so the order of the first write has to survive.
    written = dict.fromkeys(v for effects in many for v in effects.written)
    known = dict.fromkeys(v for effects in many for v in effects.known)
    inner = [inner for effects in many for inner in effects.inner]
    packs = [pack for effects in many for pack in effects.packs or ()]
    cannot = any(effects.packs is None for effects in many)
    offsets = any(effects.offsets for effects in many)
    return Effects(written, inner, known, None if cannot else packs, offsets)
