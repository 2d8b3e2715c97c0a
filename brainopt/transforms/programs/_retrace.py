# SPDX-License-Identifier: Apache-2.0
"""Exceptions that make a trace start over."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ..._compat import give_up_trace
from ...runtime import Cell, Effects


class UnknownVariables(Exception):
    """The function touched Variables that the program does not thread yet.

    Or it closes over large arrays that are to be inputs too, as may be offsets.
    """

    def __init__(
        self, effects: Effects, known: Sequence[Cell], constants: Sequence[Any] = ()
    ):
        self.effects = effects
        self.known = known
        self.constants = constants


def unpacked(effects: Effects) -> UnknownVariables:
    """Return the exception for a program that cannot keep its packs whole."""
    return UnknownVariables(Effects((), effects.inner, packs=None), ())


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


def giving_up(function: Callable) -> Callable:
    """Return ``function``, to be traced; where it fails the trace keeps no arrays."""

    @functools.wraps(function)
    def traced(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except BaseException:
            give_up_trace()
            raise

    return traced
