# SPDX-License-Identifier: Apache-2.0
"""Positions of arguments: of a method, ``self`` has the first one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._typing import PyTree
from ..core import SELF
from ..errors import message


def check_argnums(places: Iterable[int], args: Sequence[PyTree]) -> None:
    """Raise TypeError where a method is to be differentiated by ``self``."""
    if any(args[place] is SELF for place in places):
        raise TypeError(
            message(
                "Position 0 of a method is `self`, which is not differentiated by.",
                help="`argnums=1` means the first argument after `self`; for its "
                "Variables use `bo.grad(self.method, self)`.",
            )
        )


def check_entries(
    name: str, entries: Any, args: Sequence[PyTree], none: Any, option: str
) -> None:
    """Raise ValueError unless a tuple has an entry for each argument, none for self.

    Args:
        name: of the option that has the entries.
        entries: they; anything but a tuple is one for all arguments.
        args: the arguments.
        none: the entry that says nothing.
        option: which says it of the Variables of ``self``.
    """
    if type(entries) is not tuple:
        return
    is_method = bool(args) and args[0] is SELF
    if len(entries) != len(args):
        raise ValueError(
            message(
                f"{name} has {len(entries)} entries for {len(args)} arguments"
                f"{', with `self` as the first' if is_method else ''}.",
                help=f"give one for each, and {none!r} for `self`."
                if is_method
                else "give one for each, or one for all that is no tuple.",
            )
        )
    if is_method and entries[0] not in (None, none):
        raise ValueError(
            message(
                f"{name} is {entries[0]!r} for `self`, which is not split.",
                help=f"give {none!r} in its place, and split its Variables by "
                f"`{option}`.",
            )
        )
