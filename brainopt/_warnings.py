# SPDX-License-Identifier: Apache-2.0
"""Warnings that stand at the line of the user's code, with classes of their own."""

import os
import sys
import warnings
from types import FrameType

_LIBRARY = os.path.dirname(__file__) + os.sep
_BETWEEN = frozenset({"jax", "jaxlib", "importlib", "contextlib", "copy"})


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn at the innermost line that is neither of this package nor of JAX.

    Args:
        text: see `brainopt.errors.message`.
        category: one of the warnings of `brainopt.errors`, by which it can be silenced.
    """
    # With the registry of that module, the filter "once for each line" counts there.
    frame = _caller()
    warnings.warn_explicit(
        text,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _caller() -> FrameType:
    # `stacklevel` counts frames, which differ between a call, a decorated call and an
    # import; `skip_file_prefixes` needs Python 3.12.
    frame = sys._getframe(1)
    while _is_inside(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_inside(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith(_LIBRARY):
        return True
    return frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN
