# SPDX-License-Identifier: Apache-2.0
"""The fields of a class together: its arguments, their order, their documentation."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

from ._fields import Argument, Field, Number, Together

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


def documented(text: str, declared: Declared) -> str:
    """Return a docstring with a line under ``Args:`` for each argument."""
    lines = [f.line() for f in declared.arguments.values() if f.doc or _has_range(f)]
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
