# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: files that are complete or were never there."""

import importlib as _importlib

from .._command_line import is_command_line as _is_command_line
from .._command_line import later as _later

if not _is_command_line():
    from ._face import *  # noqa: F403

__getattr__ = _later(
    __name__, lambda: _importlib.import_module("brainopt.checkpoint._face")
)
