# SPDX-License-Identifier: Apache-2.0
"""Display names, unique among the living objects of this process."""

import threading
import weakref
from typing import Any

from ..errors import UniqueNameError, message

_lock = threading.Lock()
_owners: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_counts: dict[str, int] = {}


def claim(owner: object, name: str | None = None, type_: str | None = None) -> str:
    """Return a unique name for ``owner``: ``name``, or its type and a count.

    Raises:
        UniqueNameError: ``name`` is no identifier, or another living object has it.
    """
    with _lock:
        if name is None:
            kind = type_ or type(owner).__name__
            # A user may have given such a name by hand; the count goes past it.
            while True:
                count = _counts.get(kind, 0)
                _counts[kind] = count + 1
                name = f"{kind}{count}"
                if name not in _owners:
                    break
        elif not (isinstance(name, str) and name.isidentifier()):
            raise UniqueNameError(message(f"{name!r} is not a Python identifier."))
        elif _owners.get(name, owner) is not owner:
            raise UniqueNameError(
                message(
                    f"The name {name!r} belongs to another living object:",
                    [f"a {type(_owners[name]).__name__}"],
                    "choose another name, or leave it out: names are for display; "
                    "state dicts and files use attribute paths.",
                )
            )
        _owners[name] = owner
        return name


def release(owner: object, name: str) -> None:
    """Give a name of ``owner`` up, for others to take."""
    with _lock:
        if _owners.get(name) is owner:
            del _owners[name]
