# SPDX-License-Identifier: Apache-2.0
"""The one grammar to choose variables by name, and to give them other names.

Groups, masks, ``freeze``, a restore, a conversion and the command line all take a
`Choice`; whatever renames takes a `Renaming`. A name stands for itself and for all that
is below it. A name that fits nothing is an error where the choice is used once; rules
that stand for later variables too (groups, masks) warn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np

from ._warnings import warn_user
from .errors import PathError, SelectionWarning, message

Pair: TypeAlias = tuple[str | re.Pattern[str], str]
Rename: TypeAlias = Mapping[str, str] | Pair | Sequence[Pair] | Callable[[str], str]
"""Old to new names: a table, a pair, pairs, or a function."""

Test: TypeAlias = Callable[[str, Any], bool]

Where: TypeAlias = (
    str
    | re.Pattern[str]
    | Callable[..., bool]
    | Iterable[str | re.Pattern[str]]
    | Mapping[str, Any]
)
"""A choice of variables: globs, ``"re:…"``, a preset, a callable, or a tree."""

PRESETS: dict[str, Callable[[Any], bool]] = {
    "matrices": lambda value: getattr(value, "ndim", 0) >= 2,
    "vectors": lambda value: getattr(value, "ndim", 2) <= 1,
}
"""Choices by shape: two axes or more, and fewer."""

_HELP = (
    "give a path, a glob, 're:…', 'matrices', 'vectors', a callable (path, value), a "
    "tree of bools, or a list of these."
)


class Choice:
    """Some variables, as a user named them; called with path and value.

    Args:
        where: a path or glob as ``"*.bias"``, which also chooses everything below it;
            ``"re:…"`` or a compiled pattern, which must match the whole path;
            ``"matrices"``, two axes or more, or ``"vectors"``, fewer; a callable
            ``(path, value)``; a bool for all or none; a dict or tree of bools, whose
            prefixes count; or a list of these, of which one must fit.

    Raises:
        PathError: it is none of these.

    Example:
        >>> biases = Choice(["*.b", "re:norm[0-9]"])
        >>> [path for path in ("l.W", "l.b", "norm1") if biases(path)]
        ['l.b', 'norm1']
    """

    def __init__(self, where: Where | bool):
        self.where = where
        parts = where if _is_several(where) else [where]
        self._tests = [_test_of(part) for part in parts]  # type: ignore[union-attr]
        self._parts = [
            part for test in self._tests for part in getattr(test, "parts", [test])
        ]

    def __call__(self, path: str, value: Any = None) -> bool:
        """Return whether the variable is chosen."""
        return any(test(path, value) for test in self._tests)

    def unmatched(
        self, leaves: Iterable[tuple[str, object]], *, names_only: bool = False
    ) -> list[str]:
        """Return the parts of the choice that fit none of some variables.

        Args:
            leaves: ``(path, value)`` of each variable.
            names_only: leave out presets, callables and bools, which are no misspelt
                names when they fit nothing.
        """
        leaves = list(leaves)
        return [
            part.label
            for part in self._parts
            if not (names_only and not part.is_name)
            and not any(part(*leaf) for leaf in leaves)
        ]

    def __reduce__(self):
        return Choice, (self.where,)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Choice) and self.where == other.where

    # A choice may be a list or a tree, which have no hash.
    __hash__ = None  # type: ignore[assignment]


def refuse_unmatched(
    fact: str,
    choices: Iterable[Choice],
    leaves: Iterable[tuple[str, object]],
    none: str,
) -> None:
    """Raise `PathError` if a part of a choice fits none of some variables.

    Args:
        fact: the first line of the error, as "These fit no variable of this SGD:".
        choices: what was chosen.
        leaves: ``(path, value)`` of each variable.
        none: the help where there is no variable at all.
    """
    leaves = list(leaves)  # each choice goes through all of them
    wrong = [label for choice in choices for label in choice.unmatched(leaves)]
    if wrong:
        help = f"there are {shown([path for path, _ in leaves])}." if leaves else none
        raise PathError(message(fact, wrong, help))


def warn_of_unmatched(
    owner: str,
    rules: Iterable[tuple[str, Choice]],
    leaves: Iterable[tuple[str, object]],
) -> None:
    """Warn of names in rules that fit no variable.

    It is no error, since a rule also stands for variables that are registered later.

    Args:
        owner: what has the rules, as "SGD".
        rules: ``(option, choice)`` of each rule.
        leaves: ``(path, value)`` of each variable.
    """
    leaves = list(leaves)
    unmatched = [
        f"{option}: {label}"
        for option, choice in rules
        for label in choice.unmatched(leaves, names_only=True)
    ]
    if unmatched:
        text = message(
            f"These rules fit no variable of this {owner}:",
            unmatched,
            f"its variables are {', '.join(path for path, _ in leaves)}.",
        )
        warn_user(text, SelectionWarning)


def is_below(path: str, root: str) -> bool:
    """Whether a path is ``root``, or lies below it; everything lies below ``""``."""
    return not root or path == root or path.startswith(f"{root}.")


def shown(paths: Sequence[str]) -> str:
    """Write the first paths of a list in one line."""
    return ", ".join(paths[:8]) + (", …" if len(paths) > 8 else "")


class _Part:
    """One test of a choice, with the text that stands for it in an error."""

    def __init__(self, label: object, test: Test, is_name: bool = True):
        self.label = str(label)
        self.is_name = is_name
        self._test = test

    def __call__(self, path: str, value: Any) -> bool:
        return self._test(path, value)


class _Tree:
    """A tree of bools, by dotted path; the longest prefix of a path decides."""

    def __init__(self, flat: dict[str, bool]):
        # The longest first, so that the first that fits is the one that decides.
        self._flat = dict(sorted(flat.items(), key=lambda item: -len(item[0])))
        self.parts = [
            _Part(root, lambda path, value, root=root: is_below(path, root))
            for root in flat
        ]

    def __call__(self, path: str, value: Any) -> bool:
        for root, chosen in self._flat.items():
            if is_below(path, root):
                return chosen
        raise PathError(
            message("The tree of bools says nothing of these variables:", [path])
        )


def _is_several(where: Any) -> bool:
    # A list of bools alone is a tree: one bool for each variable of a list.
    several = isinstance(where, list | tuple | set | frozenset)
    return several and not (where and all(isinstance(part, bool) for part in where))


def _test_of(where: Any) -> _Part | _Tree:
    if isinstance(where, str):
        return _by_name(where)
    if isinstance(where, re.Pattern):
        return _Part(where.pattern, lambda path, value: bool(where.fullmatch(path)))
    if isinstance(where, bool | np.bool_):
        return _Part(where, lambda path, value: bool(where), False)
    flat = dict(_bools(where))
    if flat and all(isinstance(leaf, bool) for leaf in flat.values()):
        return _Tree(flat)  # modules of equinox can be called, too
    if callable(where):
        name = getattr(where, "__qualname__", repr(where))
        return _Part(name, lambda path, value: bool(where(path, value)), False)
    raise PathError(message(f"{where!r} chooses no variables.", help=_HELP))


def _by_name(name: str) -> _Part:
    if name in PRESETS:
        return _Part(name, lambda path, value: PRESETS[name](value), False)
    if name.startswith("re:"):
        pattern = pattern_of(name)
        return _Part(name, lambda path, value: bool(pattern.fullmatch(path)))
    # As it is and as a glob: a name may hold brackets, which a glob takes for a set.
    return _Part(
        name,
        lambda path, value: (
            path == name
            or path.startswith(f"{name}.")
            or fnmatchcase(path, name)
            or fnmatchcase(path, f"{name}.*")
        ),
    )


def pattern_of(name: str) -> re.Pattern[str]:
    """Compile a ``"re:…"``; a malformed one is a `PathError`."""
    try:
        return re.compile(name.removeprefix("re:"))
    except re.error as error:
        raise PathError(message(f"{name!r} is no pattern: {error}.")) from None


def _bools(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        children: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    elif not isinstance(tree, bool) and "jax" in sys.modules:
        # Other pytrees exist only where JAX is imported; the command line never does.
        tree_util = sys.modules["jax"].tree_util
        for keys, leaf in tree_util.tree_flatten_with_path(tree)[0]:
            tail = tree_util.keystr(keys, simple=True, separator=".")
            yield ".".join(part for part in (path, tail) if part), leaf
        return
    else:
        yield path, tree
        return
    for key, child in children:
        yield from _bools(child, f"{path}.{key}" if path else str(key))


class Renaming:
    """Other names for paths; called with a path.

    Args:
        rename: a table from old to new names, or pairs of them. An old name stands for
            everything below it too, and the longest that fits a path counts. Where it
            is ``"re:…"`` or a compiled pattern, each match within the path is replaced,
            and the new name may use the groups of the pattern. Patterns apply after the
            names, in their order. A function from path to path will do, and None for no
            change.

    Raises:
        PathError: a name is a glob, or no text.

    Example:
        >>> new = Renaming({"enc": "net.encoder"})
        >>> new("enc.layers.0.W")
        'net.encoder.layers.0.W'
    """

    def __init__(self, rename: Rename | None):
        self._function = rename if callable(rename) else None
        self._names: dict[str, str] = {}
        self._patterns: list[tuple[Any, re.Pattern[str], str]] = []
        for old, new in [] if callable(rename) else _pairs(rename):
            if isinstance(old, re.Pattern):
                self._patterns.append((old.pattern, old, new))
            elif old.startswith("re:"):
                self._patterns.append((old, pattern_of(old), new))
            else:
                self._names[old] = new

    def __call__(self, path: str) -> str:
        """Return the new name of a path.

        Raises:
            PathError: the function gave no text.
        """
        if self._function is not None:
            new = self._function(path)
            if not isinstance(new, str):
                raise PathError(
                    message(f"rename gave {new!r} for {path!r}, which is no str.")
                )
            return new
        path = self._by_name(path)
        for _, pattern, new in self._patterns:
            path = pattern.sub(new, path)
        return path

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """Return the old names that none of some paths has."""
        paths = list(paths)
        wrong = [
            old for old in self._names if not any(is_below(path, old) for path in paths)
        ]
        # Each pattern sees what the names and the patterns before it have made.
        paths = [self._by_name(path) for path in paths]
        for label, pattern, new in self._patterns:
            if not any(pattern.search(path) for path in paths):
                wrong.append(str(label))
            paths = [pattern.sub(new, path) for path in paths]
        return wrong

    def refuse_unmatched(self, paths: Sequence[str]) -> None:
        """Raise `PathError` if an old name is that of none of some paths."""
        if wrong := self.unmatched(paths):
            fact = "These are to be renamed, and are not there:"
            raise PathError(message(fact, wrong, f"there are {shown(list(paths))}."))

    def _by_name(self, path: str) -> str:
        fits = [old for old in self._names if is_below(path, old)]
        if not fits:
            return path
        old = max(fits, key=len)
        tail = path[len(old) :].removeprefix(".") if old else path
        return ".".join(part for part in (self._names[old], tail) if part)


def renamed(flat: Mapping[str, object], rename: Rename | None) -> dict[str, Any]:
    """Give the entries of a flat dict other names.

    Raises:
        PathError: two entries would have one name.
    """
    change = Renaming(rename)
    table: dict[str, Any] = {}
    for path, value in flat.items():
        new = change(path)
        if new in table:
            raise PathError(message(f"Two values would be called {new}:", [path]))
        table[new] = value
    return table


def _pairs(rename: Any) -> list[tuple[str | re.Pattern[str], str]]:
    if rename is None:
        return []
    if isinstance(rename, Mapping):
        pairs = list(rename.items())
    else:
        # A single pair is a sequence of two as well, but of texts.
        alone = len(rename) == 2 and isinstance(rename[1], str)
        pairs = [rename] if alone else list(rename)
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[1], str):
            raise PathError(message(f"rename takes pairs of names, not {pair!r}."))
        old = pair[0]
        if not isinstance(old, str | re.Pattern):
            raise PathError(message(f"rename takes names, not {old!r}."))
        if isinstance(old, str) and not old.startswith("re:") and set("*?") & set(old):
            raise PathError(
                message(
                    f"{old!r} has no one new name.", help="write the pattern as 're:…'."
                )
            )
    return pairs
