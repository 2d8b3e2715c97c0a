# SPDX-License-Identifier: Apache-2.0
"""What transforms return: functions that can be kept as attributes of Nodes."""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax

from ..._typing import P, R
from ..._warnings import warn_user
from ...errors import StateWarning, message
from ._reachable import globals_of
from ._trees import (
    UNSET,
    HasRecipe,
    Recipe,
    bound,
    codes,
    describe,
    flatten,
    unflatten,
)

Make = TypeVar("Make", bound=Callable[..., Any])


class Transformed(HasRecipe, Generic[P, R]):
    """A function that a transform made of another one.

    It is called as the function is, and is a method where it stands in a class. It is
    copied and pickled as its recipe: a copy is bound to copies of what the function
    holds, and nothing compiled comes along.

    Args:
        function: the function of the user.
    """

    def __init__(self, function: Callable[P, R]):
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the transform."""
        raise NotImplementedError

    def __set_name__(self, owner: type, name: str) -> None:
        # Pickle finds a method by its name in the class.
        if self._of_this_name() is not self:
            self.__name__ = name
            self.__qualname__ = f"{owner.__qualname__}.{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        held, structure = flatten(self)
        copies = [_copied(value, memo) for value in held]
        if id(self) in memo:  # what it holds holds it too
            return memo[id(self)]
        for function in codes(structure):
            _warn_of_globals(function, memo)
        if all(a is b for a, b in zip(held, copies, strict=True)):
            return self
        return unflatten(structure, copies)

    def __reduce__(self) -> Any:
        own = vars(self)
        if "__self__" in own:
            return bound, (own["__func__"], own["__self__"])
        if self._of_this_name() is self:  # a decorated function or method
            return self.__qualname__
        return Recipe.make, (self.recipe,)

    def _of_this_name(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        return found

    def __repr__(self) -> str:
        transform = self.recipe.transform.__name__.lstrip("_")
        return f"<bo.{transform} of {describe(self.recipe.function)}>"


class _Wrapper(Transformed[P, R]):
    """A transformed function that is nothing but a call."""

    def __init__(self, function: Callable[P, R], call: Callable[P, R]):
        super().__init__(function)
        self._call = call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)


def as_transform(make: Make) -> Make:
    """Make a transform of a function that takes a function and returns another one.

    Without a function it is a decorator with arguments. What it returns is
    `Transformed`, so it can be kept as an attribute of a Node.

    Args:
        make: takes the function of the user first, then options.
    """

    @functools.wraps(make)
    def public(fun: Callable | None = None, *args: Any, **options: Any) -> Any:
        if fun is None:
            return lambda function: public(function, *args, **options)
        made = make(fun, *args, **options)
        result = made if isinstance(made, Transformed) else _Wrapper(fun, made)
        result.recipe = Recipe(public, fun, args, options)
        return result

    return public  # type: ignore[return-value]


# They cannot be copied, and have no state of the user's.
_SHARED = types.ModuleType | jax.Device | jax.sharding.Sharding


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    shared = value is UNSET or isinstance(value, _SHARED)
    return value if shared else copy.deepcopy(value, memo)


def _warn_of_globals(function: Any, memo: dict[int, Any]) -> None:
    """Warn where a function of a copy reaches an original by the name of a global."""
    named = globals_of(function).items()
    stale = [name for name, x in named if memo.get(id(x), x) is not x]
    if stale:
        fact = (
            f"The copy of {describe(function)} still uses what these globals name, "
            "not the copies:"
        )
        help = (
            "transform a method, as `bo.jit(self.step)`, or a function that closes "
            "over the object."
        )
        warn_user(message(fact, stale, help), StateWarning)
