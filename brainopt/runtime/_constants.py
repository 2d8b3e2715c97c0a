# SPDX-License-Identifier: Apache-2.0
"""Values of Variables that plain JAX functions hold as constants, and the warning.

JAX keeps what it traced of a function. A plain ``jax.jit`` (or a ``jax.lax.scan`` over
a function of a module, …) that reads a Variable in eager code thus goes on with the
value of its first call, and its gradients for the Variable are zero. Inside transforms
of brainopt every frame has a cache of its own; outside of them JAX leaves no way. So
such a read is noted here, and the next write of that Variable warns, once for each
function, by name.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
import weakref
from collections.abc import Iterable

from .._warnings import warn_user
from ..errors import TracingWarning, message
from ._cell import Cell
from ._owner import changes

# By identity: a dict of Variables would compare them, and so read them.
_readers: dict[int, tuple[weakref.ref, set[types.CodeType]]] = {}
_functions: dict[types.CodeType, list[weakref.ref]] = {}
_told: set[str] = set()
_MAX_SEARCHES = 8  # for functions of one code; each looks at all objects there are


def note_constant(variable: Cell) -> None:
    """Note that a plain JAX trace in eager code reads a Variable."""
    code = _traced_code()
    if code is None or _name(code) in _told:
        return
    functions = _functions.setdefault(code, [])
    if not _any_exists(functions) and len(functions) < _MAX_SEARCHES:
        # JAX keeps nothing of a function that is gone, as one made for a single call.
        found = gc.get_referrers(code)
        functions += [weakref.ref(f) for f in found if type(f) is types.FunctionType]
    known = _readers.get(id(variable))
    if known is None or known[0]() is not variable:
        forget = functools.partial(_forget, id(variable))
        known = _readers[id(variable)] = weakref.ref(variable, forget), set()
    known[1].add(code)
    changes.count += 1  # compiled steps look at `warn_of_constants` again


def _any_exists(functions: list[weakref.ref]) -> bool:
    return any(function() is not None for function in functions)


def any_constants() -> bool:
    """Whether there is anything to warn of."""
    return bool(_readers)


def warn_of_constants(variables: Iterable[Cell]) -> None:
    """Warn if functions hold the values that these Variables had so far."""
    held: dict[str, list[str]] = {}
    for variable in variables:
        owner, codes = _readers.pop(id(variable), (None, ()))
        if owner is None or owner() is not variable:
            continue
        for code in codes:
            if _any_exists(_functions[code]) and _name(code) not in _told:
                held.setdefault(_name(code), []).append(variable.label)
    for reader, labels in held.items():
        _told.add(reader)
        warn_user(
            message(
                f"{reader} was traced by plain JAX with the values that these "
                f"Variables had, and goes on with them; now they are written:",
                labels,
                "take the transform of the same name from brainopt (`bo.jit`, "
                "`bo.for_loop`, …), or pass the values as arguments.",
            ),
            TracingWarning,
        )


def _traced_code() -> types.CodeType | None:
    """Return the code of the function that JAX traces."""
    # From here outwards: the last frame of neither package before the first one of JAX
    # is the function that JAX called.
    frame: types.FrameType | None = sys._getframe(2)
    code = None
    while frame is not None and not _is_of("jax", frame):
        if not _is_of("brainopt", frame):
            code = frame.f_code
        frame = frame.f_back
    return code


def _name(code: types.CodeType) -> str:
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"


def _is_of(package: str, frame: types.FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == package


def _forget(key: int, _: weakref.ref) -> None:
    _readers.pop(key, None)
