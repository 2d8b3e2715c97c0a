# SPDX-License-Identifier: Apache-2.0
"""Comparison of the metadata of a node with those in a file."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..._warnings import warn_user
from ...errors import CheckpointWarning, PathError, message
from ._equality import equal
from ._paths import ABSENT, under
from ._selection import Selection
from ._source import Slot

_LONG = 200  # characters of a value that an error shows
NO_ARRAY = Slot(-1)
"""Value of a setting for a choice, which tests arrays."""


def chosen(selection: Selection, path: str, table: Mapping) -> dict[Any, Any]:
    """Return the metadata that was chosen, and the class unless it was left out."""
    if not selection.filters:
        return dict(table)
    found: dict[Any, Any] = {}
    for key, value in table.items():
        name = under(path, str(key))
        if isinstance(value, Mapping):
            below = chosen(selection, name, value)
            found |= {key: below} if below else {}
        # The class is compared even where ``only=`` does not name it.
        elif takes(selection, name, is_asked=key != "class"):
            found[key] = value
    return found


def takes(selection: Selection, path: str, is_asked: bool = True) -> bool:
    """Whether a setting was chosen; see `Selection.takes`."""
    try:
        return selection.takes(path, NO_ARRAY, is_asked)
    except PathError:
        # A tree of bools speaks of variables, and leaves the settings as they are.
        return not is_asked or selection.only is None


def differences(path: str, stored: object, own: object) -> Iterator[str]:
    """Yield a line for each entry that differs."""
    if equal(stored, own):
        return
    if isinstance(stored, dict) and isinstance(own, Mapping):
        for key in (*stored, *(key for key in own if key not in stored)):
            values = stored.get(key, ABSENT), own.get(key, ABSENT)
            yield from differences(under(path, str(key)), *values)
    else:
        yield f"{path}: stored {_shown(stored)}, this one has {_shown(own)}"


def other_units(stored: Mapping[str, str], own: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each unit that differs."""
    for path, unit in own.items():
        if stored.get(path, unit) != unit:
            yield f"{path}: stored in {stored[path]}, not in {unit}"


def changed_constants(
    stored: Mapping[str, str], own: Mapping[str, str]
) -> Iterator[str]:
    """Yield a line for each array in plain attributes that differs.

    One that only the file or only the node has is a matter of their classes, and one
    that differed between the processes that saved has no text.
    """
    texts = {path: stored.get(path) or text for path, text in own.items()}
    for path in (path for path, text in own.items() if texts[path] != text):
        # Shape and dtype without the checksum, unless they are what differs.
        what, was = (str(table[path]).rpartition(" ")[0] for table in (own, stored))
        how = "other numbers" if what == was else was
        yield f"{path}: the constant {what} was saved with {how}"


def warn_of_constants(file: str, lines: Iterable[str]) -> None:
    """Warn of a restore into a model with other constants."""
    warn_user(
        message(
            f"{file} was saved by a model with other constants; they stay as they are:",
            lines,
            "build the model from the same seed and data, or keep them in Variables, "
            "which are saved.",
        ),
        CheckpointWarning,
    )


def joined(name: str, table: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a table by the paths from the root, of a node by its path."""
    return {under(name, str(path)): value for path, value in table.items()}


def paths_in(path: str, table: object) -> Iterator[str]:
    """Yield the path of each entry of metadata."""
    if isinstance(table, Mapping):
        for key, value in table.items():
            yield from paths_in(under(path, str(key)), value)
    else:
        yield path


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
