# SPDX-License-Identifier: Apache-2.0
"""Choosing variables: by name, pattern, shape, or a tree of bools."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from ...errors import HyperparameterError, message

_Test = Callable[[str, Any], bool]


class Choice:
    """Some variables, as a user named them; called with path and value.

    Args:
        choice: a path, which also chooses everything below it; a glob as
            ``"*.bias"``; ``"re:…"`` or a compiled pattern, which must match the whole
            path; ``"matrices"``, two axes or more; a callable ``(path, value)``; a
            bool for all or none; a dict or tree of bools, whose prefixes count; or a
            list of these, of which one must fit.

    Raises:
        HyperparameterError: it is none of these.
    """

    def __init__(self, choice: Any):
        self.choice = choice
        self._test = _test_of(choice)

    def __call__(self, path: str, value: Any) -> bool:
        """Return whether the variable is chosen."""
        return self._test(path, value)

    @property
    def by_name(self) -> bool:
        """Whether it chooses by names, which may be misspelt."""
        named = self.choice if isinstance(self.choice, list | tuple) else [self.choice]
        return all(isinstance(n, str | re.Pattern) and n != "matrices" for n in named)

    def __reduce__(self):
        return Choice, (self.choice,)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Choice) and self.choice == other.choice

    __hash__ = None  # type: ignore[assignment]


def warn_of_unmatched(
    owner: str,
    rules: list[tuple[str, Choice]],
    leaves: list[tuple[str, Any]],
    stacklevel: int,
) -> None:
    """Warn of rules with names that none of the variables has."""
    unmatched = [
        label
        for label, chosen in rules
        if chosen.by_name and not any(chosen(*leaf) for leaf in leaves)
    ]
    if unmatched:
        text = message(
            f"These rules fit no variable of this {owner}:",
            unmatched,
            f"its variables are {', '.join(path for path, _ in leaves)}.",
        )
        warnings.warn(text, stacklevel=stacklevel)


def _test_of(choice: Any) -> _Test:
    if isinstance(choice, bool | np.bool_):
        return lambda path, value: bool(choice)
    if isinstance(choice, str):
        return _by_name(choice)
    if isinstance(choice, re.Pattern):
        return lambda path, value: choice.fullmatch(path) is not None
    if isinstance(choice, Mapping):
        return _by_tree(choice)
    several = isinstance(choice, list | tuple | set | frozenset)
    if several and not all(isinstance(part, bool) for part in choice):
        parts = [_test_of(part) for part in choice]
        return lambda path, value: any(part(path, value) for part in parts)
    if all(isinstance(leaf, bool) for leaf in jax.tree.leaves(choice)):
        return _by_tree(choice)  # modules of equinox can be called, too
    if callable(choice):
        return lambda path, value: bool(choice(path, value))
    raise HyperparameterError(
        message(
            f"{choice!r} chooses no variables.",
            help="give a path, a glob, 're:…', 'matrices', a callable (path, value), "
            "or a tree of bools.",
        )
    )


def _by_name(name: str) -> _Test:
    if name == "matrices":
        return lambda path, value: value.ndim >= 2
    if name.startswith("re:"):
        pattern = re.compile(name.removeprefix("re:"))
        return lambda path, value: pattern.fullmatch(path) is not None
    return lambda path, value: (
        path == name or path.startswith(f"{name}.") or fnmatchcase(path, name)
    )


def _by_tree(tree: Any) -> _Test:
    flat = {
        jax.tree_util.keystr(keys, simple=True, separator="."): bool(leaf)
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }

    def chosen(path: str, value: Any) -> bool:
        for key in sorted(flat, key=len, reverse=True):
            if not key or path == key or path.startswith(f"{key}."):
                return flat[key]
        raise HyperparameterError(
            message("The tree of bools says nothing of these variables:", [path])
        )

    return chosen
