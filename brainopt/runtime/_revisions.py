# SPDX-License-Identifier: Apache-2.0
"""Revisions: counts of changes to Python objects that compiled code has baked in."""


class Revision:
    """A count of changes to something that compiled functions have baked in."""

    __slots__ = ("__weakref__", "count")

    def __init__(self):
        self.count = 0

    def changed(self) -> None:
        """Make every function compiled from the old state trace anew."""
        self.count += 1
