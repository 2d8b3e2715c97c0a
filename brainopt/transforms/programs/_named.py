# SPDX-License-Identifier: Apache-2.0
"""Names of programs, as profiles and errors of JAX show them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ._retrace import giving_up

_SIGNATURE = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY)
        for name in ("written", "read", "args", "kwargs")
    ]
)


def named_as(function: Callable, pure: Callable) -> Callable:
    """Return ``pure`` under the name and place of the user's function.

    JAX names modules of HLO, profiles, logs and errors by what it compiles. It takes
    the name from the function, the line from what that wraps, and the arguments from
    the signature.
    """

    pure = giving_up(pure)

    def named(*args):
        return pure(*args)

    # Down to the function that the user wrote, past the wrappers of transforms.
    plain = inspect.unwrap(function)
    name = getattr(plain, "__name__", None) or type(plain).__name__
    named.__name__ = named.__qualname__ = name
    named.__wrapped__ = plain if hasattr(plain, "__code__") else pure  # type: ignore[attr-defined]
    named.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return named
