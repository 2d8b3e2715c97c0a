# SPDX-License-Identifier: Apache-2.0
"""The protocol of objects that a checkpoint can save and restore."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..._typing import StateDict

NOTES = "notes"
"""Key of the result of ``_checkpoint_notes`` in the metadata of a node."""

UNITS = "units"
"""Key of the units of quantities, by path, in the metadata of a node."""

CONSTANTS = "constants"
"""Key of the checksums of arrays that are no state, by path, in the metadata."""


class Staged(Protocol):
    """A state that was compared with its object and converted, but not written.

    Attributes:
        missing: paths that the object has and the state has not.
        unexpected: paths that the state has and the object has not.
        mismatched: one sentence for each path whose shape or dtype differs, as in
            ``layers.0.W: stored (4, 8) float32, variable (8, 4) float32``.

    Objects that may share variables also have ``conflicts_with(*others) -> lines``, one
    for each path that another state gives another value, as those of Nodes do. If they
    have ``discard()``, it is called where nothing is restored after all.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    mismatched: Sequence[str]

    def commit_with(self, *others: "Staged") -> None:
        """Write this state and the others at once, or raise with nothing changed."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An object with state: a Node, an optimizer, or anything that has these three.

    A checkpoint asks for nothing else. `brainopt.Node` follows this protocol; so may
    any class of yours. Two names begin with an underscore, because checkpoints call
    them, not the users of an object.

    An object may also have ``_walked_once()``, a context manager: within it, while the
    object is saved or restored, nothing is added to it, and what was found in it once
    need not be looked for again. With ``_reads_parts = True`` a large array of a file
    comes to ``_stage_state_dict`` unread, as an object with ``shape``, ``dtype``,
    ``read_parts(slices)`` and ``__array__``, so that one at a time is in memory.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """Return ``{attribute path: array}``, all values from one instant.

        The arrays must be the ones the object holds, not copies: a checkpoint
        reads the state until two readings hold the same arrays. Objects that also
        have ``_state_dict_with(*others) -> [state dict of each]``, as Nodes do, give
        all their states in one reading.
        """
        ...

    def _checkpoint_meta(self) -> Mapping[str, Any]:
        """Return plain data that must be equal when the state is restored.

        The name of the class and its fixed settings belong here, and in a dict
        ``units`` the unit of each quantity by its path, in a dict ``constants`` shape,
        dtype and checksum of each array that is no state. Numbers that are
        part of the state come back with it; an object that also has
        ``_checkpoint_notes(state) -> dict`` has them noted beside its metadata, by
        name, for whoever inspects the file. Notes are not compared.
        """
        ...

    def _stage_state_dict(
        self, state: StateDict, *, strict: bool = True, cast: bool = False
    ) -> Staged:
        """Compare a state with this object, and change nothing.

        An object that also has ``_state_context() -> paths`` is given, as ``context=``,
        those of these entries of the file that ``only=`` and ``skip=`` left out.
        """
        ...


def is_stateful(value: object) -> bool:
    """Whether ``value`` is an object with state."""
    # One attribute first: Python compares all of a protocol, at 10 µs an array.
    if not hasattr(value, "_stage_state_dict"):
        return False
    return isinstance(value, Stateful) and not isinstance(value, type)


@contextlib.contextmanager
def walked_once(nodes: Iterable[Stateful]) -> Iterator[None]:
    """Let each object find its parts once for all that is asked within the block."""
    with contextlib.ExitStack() as stack:
        for node in nodes:
            enter: Any = getattr(node, "_walked_once", contextlib.nullcontext)
            stack.enter_context(enter())
        yield
