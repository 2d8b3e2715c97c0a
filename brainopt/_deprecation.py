# SPDX-License-Identifier: Apache-2.0
"""Warnings for public names that a later version removes.

Each warning names the version of the removal and the replacement, and points at the
line of the user's code. The suite fails once the library has reached that version, so
that what was announced is also removed. CONTRIBUTING.md holds the rule.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ._warnings import warn_user
from .errors import message

P = ParamSpec("P")
R = TypeVar("R")


def warn_deprecated(name: str, *, removal: str, instead: str) -> None:
    """Warn of a use of ``name``, at the line of the caller outside the library.

    It is called where the old name is used: in a module's ``__getattr__`` for a name
    that has moved, in the body of a function for an old argument.

    Args:
        name: the old name as users write it, such as ``bo.jacobian``.
        removal: the version that no longer has it, such as ``"0.3"``.
        instead: what to write from now on, a phrase in the imperative.
    """
    # Not by `warnings.deprecated`, which needs Python 3.13 and names no version.
    fact = f"{name} is deprecated; brainopt {removal} removes it."
    warn_user(message(fact, help=f"{instead.rstrip('.')}."), DeprecationWarning)


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
