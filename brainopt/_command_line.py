# SPDX-License-Identifier: Apache-2.0
"""Start of the command line without JAX, which takes most of a second to import.

The faces of the package import everything that users are promised. In a process that is
the command line they do not, and a command imports the rooms that it needs; if one asks
a face for a name all the same, it is loaded then.
"""

import difflib
import importlib
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


def later(package: str, load: Callable[[], object]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` that loads the face of a package at the first name.

    Args:
        package: its name.
        load: imports its face, the module with all of its names.
    """

    def __getattr__(name: str) -> Any:
        # Python asks modules for names such as ``__path__`` while it imports; those
        # must not load anything.
        if not name.startswith("__"):
            face = load()
            if hasattr(face, name):
                return getattr(face, name)
        raise missing(package, name)

    return __getattr__


_ELSEWHERE = {
    "save": "checkpoint.save",
    "load": "checkpoint.load",
    "restore": "checkpoint.restore",
    "Module": "Node",
    "Param": "TrainVar",
    "Parameter": "TrainVar",
    "State": "Variable",
    "Array": "Variable",
    "Rngs": "RandomState",
    "scan_loop": "scan",
}


def missing(package: str, name: str, hint: str = "") -> AttributeError:
    """Return the error for a name that a face does not have, with what may be meant.

    Args:
        package: whose face it is.
        name: what was asked for.
        hint: what is meant, where the package knows it.
    """
    known = dir(sys.modules[package])
    near = [other for other in known if other.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, 1, 0.8)
    hint = hint or (f"did you mean {near[0]}?" if near else "")
    if package == "brainopt" and name in _ELSEWHERE:
        hint = f"here it is bo.{_ELSEWHERE[name]}."
    elif package == "brainopt" and not name.startswith("_"):
        optim = importlib.import_module("brainopt.optim")
        hint = f"it is bo.optim.{name}." if name in dir(optim) else hint
    fact = f"module {package!r} has no attribute {name!r}"
    text = f"{fact}\nhelp: {hint}" if hint else fact
    return AttributeError(text, name=name, obj=sys.modules[package])
