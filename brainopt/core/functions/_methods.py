# SPDX-License-Identifier: Apache-2.0
"""Functions of a class, as methods of one instance.

A method is a closure over its instance: a transform that took ``self`` as an argument
would hand in a copy, and what the method writes to it would be lost. Positions count
``self`` nevertheless, as they are written in the class, so an argument without arrays
stands in its place (`SELF`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import jax


@jax.tree_util.register_pytree_node_class
class _Self:
    """An argument without arrays in the place of ``self``."""

    def tree_flatten(self):
        return (), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple):
        return SELF

    def __repr__(self) -> str:
        return "self"


SELF = _Self()


def method_of(function: Callable, owner: Callable[[], Any]) -> Callable:
    """Return a function of a class as a method of what ``owner()`` returns."""

    @functools.wraps(function, updated=())
    def method(*args, **kwargs):
        return _bind(function, owner())(*args, **kwargs)

    # As Python shows a bound method: without ``self``.
    with contextlib.suppress(TypeError, ValueError):
        signature = inspect.signature(function)
        _, *parameters = signature.parameters.values()
        signature = signature.replace(parameters=parameters)
        method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def after_self(method: Callable, function: Callable) -> Callable:
    """Return a method as a function whose first argument, `SELF`, is not used."""

    @functools.wraps(function, updated=())
    def after(_: Any, *args, **kwargs):
        return method(*args, **kwargs)

    return after


def weakly(value: Any) -> Callable[[], Any]:
    """Return what returns ``value``, without holding it where that is possible."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


# A transform inside another one has to be bound as well.
def _bind(function: Any, owner: Any) -> Callable:
    if hasattr(function, "__get__"):
        return function.__get__(owner)
    return functools.partial(function, owner)
