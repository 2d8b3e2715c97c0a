# SPDX-License-Identifier: Apache-2.0
"""How the command line starts without JAX, which takes most of a second to import.

The faces of the package import everything that users are promised. In a process that is
the command line they do not, and a command imports the rooms that it needs; if one asks
a face for a name all the same, it is loaded then.
"""

import os
import sys
from collections.abc import Callable
from typing import Any


def is_command_line() -> bool:
    """Whether this process is ``brainopt …`` or ``python -m brainopt …``."""
    words = getattr(sys, "orig_argv", [])
    if sys.argv[:1] == ["-m"]:  # so it is while the package of a module is imported
        return "-m" in words and words[words.index("-m") + 1 :][:1] == ["brainopt"]
    folder, program = os.path.split(sys.argv[0] if sys.argv else "")
    if program == "__main__.py":  # and so it is once the module itself runs
        return folder == os.path.dirname(__file__)
    return program.removesuffix(".exe") == "brainopt"


def later(package: str, load: Callable[[], Any]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` that loads the face of a package at the first name.

    Args:
        package: its name.
        load: imports its face, the module with all of its names.
    """

    def __getattr__(name: str) -> Any:
        if not name.startswith("__"):
            face = load()
            if hasattr(face, name):
                return getattr(face, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)

    return __getattr__
