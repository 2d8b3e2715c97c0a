# SPDX-License-Identifier: Apache-2.0
"""Fields: the numbers and options that an algorithm declares, once each.

One line of a class, as ``beta1: Number = decay_rate(0.9)``, is an argument of the
constructor, an attribute to read and to set, a key that a group may have, a range that
is checked, and a line of the documentation. Type checkers read the same lines, see
`HasHyperparams`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from ..._typing import PyTree, Scalar, ScalarOrSchedule
from ...errors import HyperparameterError, message

Given = TypeVar("Given")
Held = TypeVar("Held")
Pair = tuple[Scalar | None, Scalar | None]
Betas = tuple[ScalarOrSchedule, ScalarOrSchedule] | None
REQUIRED = inspect.Parameter.empty
ANY = "(-inf, inf)"
"""The range of a number that may be negative."""


class Field:
    """A declared argument; the attribute of that name is fixed after construction.

    Args:
        default: of the argument.
        doc: what it is, for the documentation.
    """

    def __init__(self, default: object = REQUIRED, doc: str = ""):
        self.default = default
        self.doc = doc
        self.name = ""
        self.argument = ""
        self.positional = True

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.argument = self.argument or name

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        # With ``__set__`` below this is a data descriptor: it wins over the dict of the
        # object, which may therefore hold the value under the same name.
        if obj is None:
            return self
        try:
            return vars(obj)[self.name]
        except KeyError:
            raise AttributeError(
                f"{type(obj).__name__!r} object has no attribute {self.name!r}"
            ) from None

    def __set__(self, obj: Any, value: Any) -> None:
        raise AttributeError(f"{self.name} of {type(obj).__name__} is fixed.")

    def problem(self, value: object) -> str:
        """Return why a value is refused, or an empty text."""
        return ""

    def stored(self, value: object) -> Any:
        """Return a value as it is kept."""
        return value

    def line(self) -> str:
        """Return its line under ``Args:``."""
        return f"{self.argument}: {self.doc}."


class Kept(Field, Generic[Given, Held]):
    """An argument that is kept in another form; setting it compiles once.

    Args:
        convert: from ``(value, name)`` to the kept form; raises for a wrong value.
        default: of the argument.
        doc: what it is.
    """

    def __init__(
        self,
        convert: Callable[[Any, str], Held],
        default: object = REQUIRED,
        doc: str = "",
    ):
        super().__init__(default, doc)
        self._convert = convert

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Held: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return super().__get__(obj, owner)

    def __set__(self, obj: Any, value: Given) -> None:
        _replace(self, obj, value)

    def stored(self, value: Any) -> Held:
        """Return a value as it is kept."""
        return self._convert(value, self.name)


class OneOf(Field):
    """An argument that is one of a few values; setting it compiles once."""

    def __init__(self, default: object, choices: tuple, doc: str = ""):
        super().__init__(default, doc)
        self.choices = choices

    def __set__(self, obj: Any, value: Any) -> None:
        _replace(self, obj, value)

    def problem(self, value: object) -> str:
        """Return why a value is refused, or an empty text."""
        # The type first: to compare an array with the choices has no one truth value.
        kinds = str if isinstance(self.choices[0], str) else bool | int | np.bool_
        if isinstance(value, kinds) and value in self.choices:
            return ""
        return f"{self.name}={value!r} is none of {', '.join(map(repr, self.choices))}"

    def stored(self, value: object) -> Any:
        """Return a value as it is kept."""
        # 1 and numpy's True pass as True; reports and files have one form of them.
        return bool(value) if self.choices == (False, True) else value


def _replace(field: Field, obj: Any, value: Any) -> None:
    if problem := field.problem(value):
        raise HyperparameterError(message(f"{problem}."))
    # Python that compiled steps have baked in: they trace anew, and go back to their
    # old program when an earlier value returns.
    vars(obj)[field.name] = stored = field.stored(value)
    obj._revision.note(field.name, stored)


class Argument(Field):
    """An argument that is no attribute."""


class Number(Field):
    """A number, or a schedule in its place, that may change between steps.

    Args:
        default: of the argument.
        symbol: in the formula.
        doc: what it is.
        range: the interval it must lie in.
        none: the number that None stands for, or the name of the number whose value
            it stands for; by default None is refused.
        is_decay: whether 1 - β and log β are kept with it.
        is_limit: whether it is a number of the stages, which no group has.
        has_buffer: whether a plain 0 at construction means that no slot is kept for
            it, so that it must stay 0.
    """

    def __init__(
        self,
        default: object = REQUIRED,
        symbol: str = "",
        doc: str = "",
        range: str = "[0, inf)",
        none: float | str | None = None,
        is_decay: bool = False,
        has_buffer: bool = False,
        is_limit: bool = False,
    ):
        super().__init__(default, doc)
        self.symbol = symbol
        self.range = range
        self.none = none
        self.is_decay = is_decay
        self.has_buffer = has_buffer
        self.is_limit = is_limit

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Number: ...

    @overload
    def __get__(self, obj: object, owner: type | None = None) -> jax.Array: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else obj._settings.number(self.name)

    def __set__(self, obj: Any, value: ScalarOrSchedule) -> None:
        obj._settings.set_number(self.name, value)

    def given(self, value: PyTree, others: Mapping[str, Any] | None = None) -> Any:
        """Return an argument, and for None the number in its place."""
        if value is not None or self.none is None:
            return value
        return (others or {})[self.none] if isinstance(self.none, str) else self.none

    def line(self) -> str:
        """Return its line under ``Args:``."""
        symbol = f":math:`{self.symbol}` " if self.symbol else ""
        kind = "decay rate " if self.is_decay and self.doc.startswith("of ") else ""
        doc = f", {kind}{self.doc}" if self.doc else ""
        return f"{self.argument}: {symbol}in {self.range}{doc}."


class Rate(Field):
    """The learning rate: a number, an array, a Variable, or a schedule."""

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else obj._settings.schedule()

    def __set__(self, obj: Any, value: ScalarOrSchedule) -> None:
        obj._settings.set_rate(value)


class Together(Field):
    """Several numbers given as one argument, and read and set as one attribute."""

    def __init__(self, *parts: str, default: object = None, doc: str = ""):
        super().__init__(default, doc)
        self.parts = parts

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        return tuple(getattr(obj, part) for part in self.parts)

    def __set__(self, obj: Any, value: Any) -> None:
        obj._settings.set_together(self.split(value))

    def split(self, value: PyTree) -> dict[str, Any]:
        """Return the numbers by name.

        Raises:
            HyperparameterError: these are more or fewer numbers.
        """
        fine = isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1
        if not fine or len(value) != len(self.parts):
            count = {2: "two", 3: "three"}.get(len(self.parts), str(len(self.parts)))
            raise HyperparameterError(
                message(
                    f"{self.name}={value!r}.",
                    help=f"give {count} numbers, ({', '.join(self.parts)}).",
                )
            )
        return dict(zip(self.parts, value, strict=True))

    def line(self) -> str:
        """Return its line under ``Args:``."""
        doc = self.doc or "in their place"
        return f"{self.argument}: ``({', '.join(self.parts)})``, {doc}."


class Option(Field):
    """A setting that is fixed at construction and may differ by group."""

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else obj._settings.option(self.name)

    def __set__(self, obj: Any, value: Any) -> None:
        # Fixed, also for a `Choice`, whose other base has a setter.
        Field.__set__(self, obj, value)


class Choice(Option, OneOf):
    """An option that is one of a few."""


class Count(Option):
    """An option that is a whole number from 1."""

    def problem(self, value: Any) -> str:
        """Return why a value is refused, or an empty text."""
        if is_whole(value) and value >= 1:
            return ""
        return f"{self.name}={value!r} is no whole number in [1, inf)"

    def stored(self, value: Any) -> Any:
        """Return a value as it is kept."""
        return int(value)


class DType(Option):
    """An option that is a floating or complex dtype, or None."""

    def problem(self, value: Any) -> str:
        """Return why a value is refused, or an empty text."""
        try:
            dtype = None if value is None else jnp.dtype(value)
        except TypeError:
            return f"{self.name}={value!r} is no dtype"
        if dtype is None or jnp.issubdtype(dtype, jnp.inexact):
            return ""
        return f"{self.name}={dtype.name} is no floating or complex dtype"

    def stored(self, value: Any) -> Any:
        """Return a value as it is kept."""
        return None if value is None else jnp.dtype(value)


def argument(*, default: object = REQUIRED, alias: str, doc: str = "") -> Any:
    """Declare an argument under the name ``alias``, which is no attribute."""
    field = Argument(default, doc or ("a display name" if alias == "name" else ""))
    field.argument = alias
    return field


def rate(*, default: object = REQUIRED, doc: str = "") -> Any:
    """Declare the learning rate."""
    usual = (
        r":math:`\gamma`: a number in [0, inf), an array, a Variable, a schedule, or a "
        "callable of the step"
    )
    return Rate(default, doc or usual)


def fixed(default: object, doc: str) -> Any:
    """Declare a setting of all variables that is fixed at construction."""
    return Field(default, doc)


def number(
    default: object = REQUIRED, symbol: str = "", doc: str = "", **how: Any
) -> Any:
    """Declare a number; see `Number`."""
    return Number(default, symbol, doc, **how)


def required(symbol: str = "", doc: str = "", range: str = "[0, inf)") -> Any:
    """Declare a number that has no default."""
    return Number(REQUIRED, symbol, doc, range)


def as_given(value: object, name: str) -> Any:
    """Return a value as it is; for `kept`."""
    return value


def kept(
    convert: Callable[[Any, str], Any], *, default: object = REQUIRED, doc: str = ""
) -> Any:
    """Declare an argument that is kept in another form; see `Kept`."""
    return Kept(convert, default, doc)


def one_of(default: object, choices: tuple, doc: str = "") -> Any:
    """Declare an argument that is one of a few values."""
    return OneOf(default, choices, doc)


def decay_rate(
    default: object = REQUIRED, symbol: str = "", doc: str = "", **how: Any
) -> Any:
    """Declare a decay rate β in [0, 1), for which ``hyper.one_minus`` is exact."""
    return Number(default, symbol, doc, "[0, 1)", is_decay=True, **how)


def flag(default: bool = False, doc: str = "") -> Any:
    """Declare an option that is on or off."""
    return Choice(default, (False, True), doc)


def choice(default: str, choices: tuple[str, ...], doc: str = "") -> Any:
    """Declare an option that is one of a few texts."""
    return Choice(default, choices, doc)


def option(default: object = REQUIRED, doc: str = "") -> Any:
    """Declare an option that may be anything."""
    return Option(default, doc)


def count(default: int, doc: str = "") -> Any:
    """Declare an option that is a whole number from 1."""
    return Count(default, doc)


def dtype(default: object = None, doc: str = "") -> Any:
    """Declare an option that is a floating or complex dtype, or None."""
    return DType(default, doc)


def together(*parts: str, default: object = None, doc: str = "") -> Any:
    """Declare one argument for several numbers; see `Together`."""
    return Together(*parts, default=default, doc=doc)


def is_whole(value: object) -> bool:
    """Whether ``value`` is an integer, of Python or numpy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
