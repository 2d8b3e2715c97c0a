# SPDX-License-Identifier: Apache-2.0
"""The trainable-state layer for brain models in JAX."""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import errors as errors
from ._command_line import is_command_line as _is_command_line
from ._command_line import later as _later
from ._version import __version__ as __version__

if not _is_command_line():
    from ._face import *  # noqa: F403

if _TYPE_CHECKING:
    from . import checkpoint as checkpoint
    from . import debug as debug
    from . import distributed as distributed
    from . import optim as optim
    from . import sharding as sharding

# Files and optimizers are half of the import; who only runs a model does not pay.
_LAZY = {
    "checkpoint": lambda: _importlib.import_module("brainopt.checkpoint"),
    "debug": lambda: _importlib.import_module("brainopt.debug"),
    "distributed": lambda: _importlib.import_module("brainopt.distributed"),
    "optim": lambda: _importlib.import_module("brainopt.optim"),
    "sharding": lambda: _importlib.import_module("brainopt.sharding"),
}
_from_face = _later(__name__, lambda: _importlib.import_module("brainopt._face"))


def __getattr__(name: str):
    return _LAZY[name]() if name in _LAZY else _from_face(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
