# SPDX-License-Identifier: Apache-2.0
"""Arguments that are compiled in: the declared ones, and Nodes by identity."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from ..._typing import PyTree
from ...core import Node
from ...errors import message
from .._packed import is_state, value_in


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
        # An argument that is declared by position may be given by name, and the other
        # way round; so each becomes both where the signature is known.
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
        # ``self`` is no argument of the bound method: every position moves down by one.
        new.nums = frozenset(n - 1 for n in self.nums if n != 0)
        new.names = self.names
        new.splits = self.splits
        new.deep = self.deep
        return new

    def look(self, args: tuple, kwargs: dict) -> None:
        """Split calls from now on: a Node or Variable has been seen.

        The first time only those among the arguments themselves are looked for, then
        those in lists and dicts too.
        """
        found = any(map(is_state, (*args, *kwargs.values())))
        self.deep = self.deep or self.splits or not found
        self.splits = True

    def split(self, args: tuple, kwargs: dict) -> Split:
        """Return the arguments that are compiled in and those that are traced."""
        # Without a signature negative positions are counted from the end of each call.
        nums = self.nums and {n % len(args) if n < 0 and args else n for n in self.nums}
        fixed: dict[int | str, Any] = {}
        rest, named = [], {}
        for i, arg in enumerate(args):
            if i in nums or isinstance(arg, Node):
                fixed[i] = arg
            else:
                rest.append(value_in(arg))
        for name, arg in kwargs.items():
            if name in self.names or isinstance(arg, Node):
                fixed[name] = arg
            else:
                named[name] = value_in(arg)
        key = _key(fixed, len(args)) if fixed else None
        if not self.deep:
            return Split(key, fixed, None, len(args), tuple(rest), named)
        inner, unfold, leaves = _fold(rest, named)
        return Split((key, inner), fixed, unfold, len(args), leaves, {})


class Split(NamedTuple):
    """The arguments of one call, split.

    Attributes:
        key: equal for calls that run the same code.
        fixed: what is compiled in, by position or name.
        unfold: rebuilds the other arguments from ``args``, where these are leaves.
        size: the number of positional arguments.
        args: what is traced.
        kwargs: what is traced.
    """

    key: Any
    fixed: dict[int | str, Any]
    unfold: Callable[[Sequence[Any]], tuple[list, dict]] | None
    size: int
    args: tuple
    kwargs: dict

    def bind(self, function: Callable) -> Callable:
        """Return ``function`` of ``args`` and ``kwargs`` alone."""
        fixed, size, unfold = self.fixed, self.size, self.unfold

        def of_the_rest(*dynamic, **named):
            remaining = iter(dynamic)
            everything = [
                fixed[i] if i in fixed else next(remaining) for i in range(size)
            ]
            fixed_named = {k: v for k, v in fixed.items() if isinstance(k, str)}
            return function(*everything, **named, **fixed_named)

        of_the_rest.__wrapped__ = function  # type: ignore[attr-defined]
        bound = of_the_rest if fixed else function
        if unfold is None:
            return bound

        def of_the_leaves(*leaves):
            positional, named = unfold(leaves)
            return bound(*positional, **named)

        of_the_leaves.__wrapped__ = function  # type: ignore[attr-defined]
        return of_the_leaves


def _fold(args: list, kwargs: dict) -> tuple[Any, Callable, tuple]:
    """Take the Nodes out of lists and dicts: ``(key, unfold, the other leaves)``."""
    leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=is_state)
    nodes = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Node)}
    others = [value_in(leaf) for i, leaf in enumerate(leaves) if i not in nodes]

    def unfold(given: Sequence[PyTree]):
        remaining = iter(given)
        filled = [
            nodes[i] if i in nodes else next(remaining) for i in range(len(leaves))
        ]
        return jax.tree.unflatten(tree, filled)

    # By identity, as in `_key`; the closure above holds the Nodes and so their ids.
    key = (tree, tuple((i, id(node)) for i, node in nodes.items()))
    return key, unfold, tuple(others)


def _key(fixed: dict[int | str, Any], count: int) -> Any:
    key: list[Any] = [count]
    for place, value in fixed.items():
        if isinstance(value, Node):
            # The function of the rest holds the Node, so no other can take its id.
            key += place, Node, id(value)
            continue
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
        key += place, type(value), value
    return tuple(key)


def _positional(function: Callable) -> list[str] | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]
