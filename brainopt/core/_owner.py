# SPDX-License-Identifier: Apache-2.0
"""What the walk knows of a Node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ..runtime import Watched


class Owner(Watched):
    """Abstract: an object that owns Variables and other owners as attributes."""

    _fits_a_line: ClassVar[bool] = False
    """Whether ``repr`` says in one line all that a tree should show of it."""

    @property
    def name(self) -> str:
        """The display name, unique among living objects."""
        raise NotImplementedError

    def _owned_attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield ``(key, value)`` of what may hold Variables; ``""`` adds no key."""
        raise NotImplementedError

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield ``(key, value)`` of what makes the structure of this as a pytree."""
        raise NotImplementedError
