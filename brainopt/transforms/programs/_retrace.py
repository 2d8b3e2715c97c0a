# SPDX-License-Identifier: Apache-2.0
"""Exceptions that make a trace start over."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from ...runtime import Cell, Effects


class UnknownVariables(Exception):
    """The function touched Variables that the program does not thread yet."""

    def __init__(self, effects: Effects, known: Sequence[Cell]):
        self.effects = effects
        self.known = known


class DeepState(Exception):
    """A list or dict among the arguments holds a Node or a Variable."""


def forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold.

    They hold the values of the Variables, which would pass for shared with somebody.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
