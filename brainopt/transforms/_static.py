# SPDX-License-Identifier: Apache-2.0
"""Arguments that are compiled in: the declared ones, and Nodes by identity."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..core import Node
from ..core._operators import ArrayLike, unwrap
from ..errors import message
from ._lift import is_state


class ById:
    """A key that is equal only for the same object."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any):
        self.obj = obj

    def __hash__(self) -> int:
        return id(self.obj)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ById) and self.obj is other.obj


class Static:
    """Splits the arguments of a call into a hashable key and what JAX traces.

    Args:
        function: whose signature relates positions to names.
        argnums: declared positions.
        argnames: declared names.
    """

    def __init__(
        self,
        function: Callable,
        argnums: int | Sequence[int] | None,
        argnames: str | Sequence[str] | None,
    ):
        nums = (argnums,) if isinstance(argnums, int) else tuple(argnums or ())
        names = (argnames,) if isinstance(argnames, str) else tuple(argnames or ())
        positional = _positional(function)
        if positional is not None:
            nums = tuple(n + len(positional) if n < 0 else n for n in nums)
            nums += tuple(positional.index(n) for n in names if n in positional)
            names += tuple(positional[n] for n in nums if 0 <= n < len(positional))
        self.nums = frozenset(nums)
        self.names = frozenset(names)
        self.splits = bool(nums or names)
        self.deep = False

    def shifted(self) -> Static:
        """Return the same for a method whose first argument is bound."""
        new = Static.__new__(Static)
        new.nums = frozenset(n - 1 for n in self.nums if n != 0)
        new.names = self.names
        new.splits = self.splits
        new.deep = self.deep
        return new

    def look(self, args: tuple, kwargs: dict) -> None:
        """Note that calls are to be split: a Node or Variable has been seen.

        The first time only those among the arguments themselves are looked for, then
        those in lists and dicts too.
        """
        found = any(isinstance(a, Node | ArrayLike) for a in (*args, *kwargs.values()))
        self.deep = self.deep or self.splits or not found
        self.splits = True

    def split(self, function: Callable, args: tuple, kwargs: dict):
        """Return ``(key, function of the rest, rest of args, rest of kwargs)``."""
        nums = {n % len(args) if n < 0 and args else n for n in self.nums}
        fixed: dict[int | str, Any] = {}
        rest, rest_named = [], {}
        for i, arg in enumerate(args):
            if i in nums or isinstance(arg, Node):
                fixed[i] = arg
            else:
                rest.append(arg.value if isinstance(arg, ArrayLike) else arg)
        for name, arg in kwargs.items():
            if name in self.names or isinstance(arg, Node):
                fixed[name] = arg
            else:
                rest_named[name] = arg.value if isinstance(arg, ArrayLike) else arg

        def of_the_rest(*dynamic, **named):
            remaining = iter(dynamic)
            everything = [
                fixed[i] if i in fixed else next(remaining) for i in range(len(args))
            ]
            fixed_named = {k: v for k, v in fixed.items() if isinstance(k, str)}
            return function(*everything, **named, **fixed_named)

        if not fixed:
            of_the_rest = function
        key = _key(fixed, len(args))
        if not self.deep:
            return key, of_the_rest, tuple(rest), rest_named
        inner, unfold, leaves = _fold(rest, rest_named)

        def of_the_leaves(*leaves):
            positional, named = unfold(leaves)
            return of_the_rest(*positional, **named)

        return (key, inner), of_the_leaves, leaves, {}


def _fold(args: list, kwargs: dict) -> tuple[Any, Callable, tuple]:
    """Take the Nodes out of lists and dicts: ``(key, unfold, the other leaves)``."""
    leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=is_state)
    nodes = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Node)}
    others = [unwrap(leaf) for i, leaf in enumerate(leaves) if i not in nodes]

    def unfold(given):
        remaining = iter(given)
        filled = [
            nodes[i] if i in nodes else next(remaining) for i in range(len(leaves))
        ]
        return jax.tree.unflatten(tree, filled)

    key = (tree, tuple((i, ById(node)) for i, node in nodes.items()))
    return key, unfold, tuple(others)


def _key(fixed: dict[int | str, Any], count: int) -> Any:
    key = (count,) if any(isinstance(k, int) for k in fixed) else ()
    for place, value in fixed.items():
        if not isinstance(value, Node):
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    message(
                        f"Static argument {place!r} is a {type(value).__name__}, which "
                        f"cannot be hashed.",
                        help="pass a tuple in the place of a list, or do not make it "
                        "static.",
                    )
                ) from None
            # 1, 1.0 and True are equal keys but different programs.
            key += ((place, type(value), value),)
        else:
            key += ((place, ById(value)),)
    return key or None


def _positional(function: Callable) -> list[str] | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]
