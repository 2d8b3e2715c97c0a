# SPDX-License-Identifier: Apache-2.0
"""Which paths of a file a restore takes, and under which names."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ...errors import PathError, message

Globs = str | Sequence[str] | None
Pair = tuple[str | re.Pattern[str], str]
Rename = Mapping[str, str] | Pair | Sequence[Pair] | Callable[[str], str] | None


class Selection:
    """The choice made by ``only``, ``skip`` and ``rename``.

    Args:
        only: globs; a path must match one of them. None takes all.
        skip: globs; a path must match none of them.
        rename: a dict of old to new names, where a name stands for everything below
            it; or a pair of a regular expression and its replacement, or several
            such pairs, applied in order; or a function from path to path.
    """

    def __init__(self, only: Globs, skip: Globs, rename: Rename) -> None:
        self.only = _globs(only)
        self.skip = _globs(skip) or []
        self.filters = self.only is not None or bool(self.skip)
        self._rename = _renamer(rename)

    def takes(self, path: str) -> bool:
        """Whether the path, by its name in the target, takes part."""
        if self.only is not None and not _any_matches(self.only, path):
            return False
        return not _any_matches(self.skip, path)

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """Name the globs that match none of the paths."""
        paths = list(paths)
        return [
            f"{option}={glob!r} matches nothing"
            for option, globs in (("only", self.only or []), ("skip", self.skip))
            for glob in globs
            if not any(_any_matches([glob], path) for path in paths)
        ]

    def renamed(self, path: str) -> str:
        """The name in the target of a path in the file."""
        new = self._rename(path)
        if not isinstance(new, str):
            raise TypeError(f"rename gave {new!r} for {path!r}, which is no str")
        return new


def renamed(flat: Mapping[str, Any], rename: Rename) -> dict[str, Any]:
    """Give the entries of a flat dict other names, as `Selection` does.

    Raises:
        PathError: two entries would have one name.
    """
    change = _renamer(rename)
    table: dict[str, Any] = {}
    for path, value in flat.items():
        new = change(path)
        if new in table:
            raise PathError(message(f"Two values would be called {new}:", [path]))
        table[new] = value
    return table


def refuse_idle(flat: Mapping[str, Any], rename: Rename) -> None:
    """Raise `PathError` if a table renames what is not there."""
    old = list(rename) if isinstance(rename, Mapping) else []
    idle = [o for o in old if not any(_is_below(path, o) for path in flat)]
    if idle:
        raise PathError(
            message("These are to be renamed, and are not there:", idle, _there(flat))
        )


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}.")


def _there(flat: Mapping[str, Any]) -> str:
    paths = list(flat)
    return f"there are {', '.join(paths[:8])}{', …' if len(paths) > 8 else '.'}"


def _globs(globs: Globs) -> list[str] | None:
    if globs is None:
        return None
    return [globs] if isinstance(globs, str) else list(globs)


def _any_matches(globs: list[str], path: str) -> bool:
    return any(
        fnmatchcase(path, glob) or fnmatchcase(path, f"{glob}.*") for glob in globs
    )


def _renamer(rename: Rename) -> Callable[[str], str]:
    if rename is None:
        return lambda path: path
    if callable(rename):
        return rename
    if isinstance(rename, Mapping):
        table = dict(rename)
        return lambda path: _by_table(table, path)
    alone = len(rename) == 2 and isinstance(rename[1], str)
    given = _pairs([rename] if alone else rename)
    pairs = [(re.compile(pattern), text) for pattern, text in given]

    def by_pattern(path: str) -> str:
        for pattern, text in pairs:
            path = pattern.sub(text, path)
        return path

    return by_pattern


def _pairs(rename: Any) -> list[tuple[Any, str]]:
    for pair in rename:
        if isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[1], str):
            raise TypeError(
                f"rename takes pairs of a pattern and its replacement, not {pair!r}"
            )
    return list(rename)


def _by_table(table: Mapping[str, str], path: str) -> str:
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        new = table.get(".".join(parts[:end]))
        if new is not None:
            return ".".join([part for part in (new, *parts[end:]) if part])
    return path
