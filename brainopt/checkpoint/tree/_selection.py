# SPDX-License-Identifier: Apache-2.0
"""Which paths of a file a restore takes, and under which names."""

from collections.abc import Iterable

from ..._select import Choice, Rename, Renaming, Where
from ..._typing import PyTree


class Selection:
    """The choice made by ``only``, ``skip`` and ``rename``.

    Args:
        only: a path must be one of these. None takes all.
        skip: a path must be none of these.
        rename: from the names in the file to those of the target.
    """

    def __init__(
        self,
        only: Where | None = None,
        skip: Where | None = None,
        rename: Rename | None = None,
    ) -> None:
        self.only = None if only is None else Choice(only)
        self.skip = None if skip is None else Choice(skip)
        self.filters = self.only is not None or self.skip is not None
        self.renamed = Renaming(rename)

    def takes(self, path: str, value: PyTree, is_asked: bool = True) -> bool:
        """Whether a path, by its name in the target, takes part.

        With ``is_asked`` False it need not be among ``only``.
        """
        if is_asked and self.only is not None and not self.only(path, value):
            return False
        return self.skip is None or not self.skip(path, value)

    def unmatched(self, leaves: Iterable[tuple[str, PyTree]]) -> list[str]:
        """List the parts of ``only`` and ``skip`` that fit none of the leaves."""
        leaves = list(leaves)
        return [
            f"{option}={label!r} matches nothing"
            for option, choice in (("only", self.only), ("skip", self.skip))
            for label in (choice.unmatched(leaves) if choice is not None else ())
        ]
