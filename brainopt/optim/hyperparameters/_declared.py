# SPDX-License-Identifier: Apache-2.0
"""The fields of a class together: its arguments, their order, their documentation."""

from __future__ import annotations

import abc
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, dataclass_transform

from ._fields import Argument, Field, Number, Together, argument, kept, rate, required

# As a text where annotations are not evaluated, as an object where they are.
_KW_ONLY = ("KW_ONLY", KW_ONLY)


class Declared:
    """The fields of a class, those of its bases first.

    Attributes:
        fields: by attribute; also those that are no arguments.
        arguments: by the name of the argument, in the order of the constructor.
    """

    def __init__(self, cls: type | None = None, above: Declared | None = None):
        self.fields: dict[str, Field] = dict(above.fields) if above else {}
        arguments = dict(above.arguments) if above else {}
        if cls is not None:
            own = {k: v for k, v in vars(cls).items() if isinstance(v, Field)}
            self.fields |= own
            arguments |= {f.argument: f for f in _arguments(cls, own)}
        # Keyword-only arguments move to the end, as dataclasses have it.
        ordered = sorted(arguments.values(), key=lambda f: not f.positional)
        self.arguments = {field.argument: field for field in ordered}

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Return the signature of the constructor."""
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if field.positional
                else inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
            )
            for name, field in self.arguments.items()
        ]
        if "name" not in self.arguments:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter("name", kind, default=None))
        return inspect.Signature(parameters)

    def of(self, kind: type) -> dict[str, Any]:
        """Return the fields of one kind, by attribute."""
        return {k: f for k, f in self.fields.items() if isinstance(f, kind)}


def _arguments(cls: type, own: Mapping[str, Field]) -> list[Field]:
    # Annotations keep the order of the class body, and mark where arguments become
    # keyword-only, as in a dataclass. A field without one is an attribute alone.
    found, positional = [], True
    for name, annotation in inspect.get_annotations(cls).items():
        if annotation in _KW_ONLY:
            positional = False
        elif name in own:
            own[name].positional = positional
            found.append(own[name])
            if isinstance(own[name], Argument):
                delattr(cls, name)  # a method of a base may have this name
    return found


@dataclass_transform(field_specifiers=(argument, kept, rate, required))
class Declaring(abc.ABCMeta):
    """Metaclass that collects the fields of a class when the class is made.

    The fields become its signature and a part of its documentation. A metaclass, not
    a base: it adds no class to the line of an optimizer, and a type checker derives
    the constructor from the fields of every class below.
    """

    def __init__(cls, name: str, bases: tuple, namespace: dict, **kwargs: Any):
        super().__init__(name, bases, namespace, **kwargs)
        held: Any = cls
        declared = held._declared = Declared(cls, getattr(cls, "_declared", None))
        if not declared.arguments:
            return
        # A class with a constructor of its own (a wrapper) shows that one.
        if not getattr(held.__init__, "takes_fields", False):
            _, *others = inspect.signature(held.__init__).parameters.values()
            held.__signature__ = inspect.Signature(others)
            return
        held.__signature__ = declared.signature
        if "__doc__" in vars(cls) and cls.__doc__:
            cls.__doc__ = documented(inspect.cleandoc(cls.__doc__), declared)


def takes_fields(init: Callable) -> Callable:
    """Mark a constructor whose arguments are the declared fields."""
    init.takes_fields = True  # type: ignore[attr-defined]
    return init


def documented(text: str, declared: Declared) -> str:
    """Return a docstring with a line under ``Args:`` for each argument."""
    # Before the first section that follows ``Args:`` in Google style.
    lines = [f.line() for f in declared.arguments.values() if f.doc or _has_range(f)]
    if "name" not in declared.arguments:
        lines.append("name: a display name.")
    block = "Args:\n" + "\n".join(map(_wrapped, lines)) + "\n\n"
    later = re.search(r"^(Raises|Example|Source|Attributes|Differs):", text, re.M)
    at = later.start() if later else len(text)
    head = text[:at].rstrip() + "\n\n"
    return head + block + text[at:]


def _wrapped(line: str) -> str:
    space = " " * 4
    return textwrap.fill(
        line,
        88,
        initial_indent=space,
        subsequent_indent=2 * space,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _has_range(field: Field) -> bool:
    return isinstance(field, Number | Together)
