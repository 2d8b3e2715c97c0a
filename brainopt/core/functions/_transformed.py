# SPDX-License-Identifier: Apache-2.0
"""What transforms return: functions that can be kept as attributes of Nodes."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax

from ..._typing import P, R
from ..._warnings import warn_user
from ...errors import StateWarning, message
from ._methods import SELF, after_self, method_of, weakly
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

    It is called as the function is, and is a method where it stands in a class: one
    that closes over its instance, as `_methods` says. It is copied and pickled as its
    recipe: a copy is bound to copies of what the function holds, and nothing compiled
    comes along.

    Args:
        function: the function of the user.
    """

    def __init__(self, function: Callable[P, R]):
        functools.update_wrapper(self, function, updated=())
        self._for: weakref.WeakKeyDictionary[Any, Transformed] = (
            weakref.WeakKeyDictionary()
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the transform."""
        raise NotImplementedError

    def __set_name__(self, owner: type, name: str) -> None:
        # Pickle finds a method by its name in the class.
        if self._of_this_name() is not self:
            self.__name__ = name
            self.__qualname__ = f"{owner.__qualname__}.{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or "__self__" in self.__dict__:
            return self
        try:
            made = self._for.get(instance)
            if made is None:
                made = self._for[instance] = self._made_for(weakly(instance))
        except TypeError:  # an instance without a hash, or of which no weak one exists
            made = self._made_for(weakly(instance))
        return self._as_method(made, instance)

    def _made_for(self, owner: Callable[[], Any]) -> Transformed:
        """Return the same transform of a method of what ``owner()`` returns."""
        transform, function, args, options = self.recipe
        method = after_self(method_of(function, owner), function)
        return transform(method, *args, **options)

    def _as_method(self, made: Transformed, instance: Any) -> Any:
        """Return what `_made_for` made, holding the instance."""
        own = {"_made": made, "__self__": instance, "__func__": self}
        method = _Method.__new__(_Method)
        method.__dict__ = self.__dict__ | own
        return method

    # Methods are made at each access, and are equal as those of Python are.
    def __eq__(self, other: object) -> bool:
        own = self.__dict__
        if self is other or "__self__" not in own or not isinstance(other, Transformed):
            return self is other
        return own["__self__"] is other.__dict__.get("__self__") and (
            own["__func__"] is other.__dict__["__func__"]
        )

    def __hash__(self) -> int:
        own = self.__dict__
        if "__self__" not in own:
            return id(self)
        return hash((id(own["__self__"]), id(own["__func__"])))

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


class _Method(Transformed):
    """A transformed function as a method, see `Transformed._as_method`."""

    _made: Transformed
    __self__: Any
    __func__: Transformed

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(method_of(self.__func__, lambda: self.__self__))

    def __call__(self, *args, **kwargs):
        return self._made(SELF, *args, **kwargs)


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
