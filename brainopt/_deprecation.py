# SPDX-License-Identifier: Apache-2.0
"""Warnings for public names that a later version removes.

Each warning names the version of the removal and the replacement, and points at the
line of the user's code. The suite fails once the library has reached that version, so
that what was announced is also removed. CONTRIBUTING.md holds the rule.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

from .errors import message

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY = str(Path(__file__).parent)
_IMPORTS = "<frozen importlib"


def warn_deprecated(name: str, *, removal: str, instead: str) -> None:
    """Warn of a use of ``name``, at the line of the caller outside the library.

    It is called where the old name is used: in a module's ``__getattr__`` for a name
    that has moved, in the body of a function for an old argument.

    Args:
        name: the old name as users write it, such as ``bo.jacobian``.
        removal: the version that no longer has it, such as ``"0.3"``.
        instead: what to write from now on, a phrase in the imperative.
    """
    frame = _caller_outside()
    fact = f"{name} is deprecated; brainopt {removal} removes it."
    warnings.warn_explicit(
        message(fact, help=f"{instead.rstrip('.')}."),
        DeprecationWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def deprecated(
    name: str, *, removal: str, instead: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a function or method that warns at each call.

    The arguments are those of `warn_deprecated`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> R:
            warn_deprecated(name, removal=removal, instead=instead)
            return function(*args, **kwargs)

        return warned

    return decorate


def _caller_outside() -> FrameType:
    # `stacklevel` counts frames, which differ between a call, a decorated call and an
    # import; `skip_file_prefixes` needs Python 3.12.
    frame = sys._getframe(1)
    while _is_inside(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_inside(filename: str) -> bool:
    return filename.startswith((_LIBRARY, _IMPORTS))
