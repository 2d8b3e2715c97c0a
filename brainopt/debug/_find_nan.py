# SPDX-License-Identifier: Apache-2.0
"""The first NaN of a step: the operation, the line of code, and the Variables.

The step runs once under `jax.experimental.checkify`, in a frame whose writes are
dropped, so that it can be run again, and changed, from the same state.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify as jax_checkify

from .._compat import check_traceback, is_library_file
from ..runtime import Cell, Frame
from ..transforms import checkify


@dataclass(frozen=True)
class NanReport:
    """What `find_nan` found; it is false where there was no NaN.

    Attributes:
        operation: the primitive of JAX that gave the first NaN, or "".
        line: ``file:line (function)`` of the code that called it, or "".
        code: that line itself, or "".
        before: by name how many numbers were not finite before the step, of its
            arguments and of the Variables that it reads.
        after: the same after the step, of the Variables that it writes, in the order
            of the writes.
    """

    operation: str
    line: str
    code: str
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.operation or self.before or self.after)

    def __str__(self) -> str:
        if not self:
            return "No NaN: every operation of the step gave numbers."
        lines = []
        if self.before:
            lines += ["Not finite before the step:", *_lines(self.before)]
        if self.operation:
            lines.append(f"The first NaN was given by `{self.operation}`")
            lines += [f"  at {self.line}"] * bool(self.line)
            lines += [f"    {self.code}"] * bool(self.code)
        if self.after:
            lines += ["Not finite after the step:", *_lines(self.after)]
        return "\n".join(lines)

    __repr__ = __str__


class _Watching(Frame):
    """A frame that notes which Variables are read."""

    def __init__(self):
        super().__init__()
        self.seen: dict[Cell, None] = {}

    def read(self, variable: Cell) -> Any:
        """Return the value inside this run."""
        self.seen[variable] = None
        return super().read(variable)


def find_nan(step: Callable, *args: Any, **kwargs: Any) -> NanReport:
    """Return where the first NaN of a step comes from.

    The step runs once, slowly, and every operation is checked, also inside loops,
    branches and gradients. The Variables keep their values, so call it with the state
    and the arguments of the step that went wrong.

    Args:
        step: any function that reads and writes Variables.
        args: its arguments.
        kwargs: its arguments by name.

    Returns:
        The operation, the line of code, and the Variables that are not finite before
        and after; printing it says so in words. It is false where there is no NaN.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> w = bo.TrainVar([1.0, -1.0], name="w")
        >>> def step(x):
        ...     w.value = jnp.log(w.value * x)
        >>> report = bo.debug.find_nan(step, 2.0)
        >>> report.operation, dict(report.after)
        ('log', {"TrainVar 'w'": 1})

    Source: `jax.experimental.checkify`, with ``nan_checks``.
    """
    checked = checkify(step, errors=jax_checkify.nan_checks)
    frame = _Watching()
    with frame:
        error, _ = checked(*args, **kwargs)
        written = frame.effects().written
        after = [(v.label, frame.values[v]) for v in written]
    before = [(v.label, v._committed()) for v in frame.seen]
    given, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    names = ("args", "kwargs")
    for (place, *keys), leaf in given:
        before.append((names[place.idx] + jax.tree_util.keystr(tuple(keys)), leaf))
    return NanReport(*_origin(error), _counts(before), _counts(after))


def _origin(error: Any) -> tuple[str, str, str]:
    exception = error.get_exception()
    if exception is None:
        return "", "", ""
    operation = getattr(exception, "prim", "") or str(exception)
    frames = traceback.extract_tb(check_traceback(exception))
    own = [f for f in frames if not is_library_file(f.filename)]
    if not own:
        return operation, "", ""
    last = own[-1]
    return operation, f"{last.filename}:{last.lineno} ({last.name})", last.line or ""


def _counts(named: Iterable[tuple[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, value in named:
        bad = sum(map(_bad, jax.tree.leaves(value)))
        if bad:
            counts[name] = counts.get(name, 0) + bad
    return counts


def _bad(leaf: Any) -> int:
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return 0
    return int((~jnp.isfinite(leaf)).sum())


def _lines(counts: Mapping[str, int]) -> list[str]:
    return [
        f"  {name}: {count:,} number{'s' * (count != 1)}"
        for name, count in counts.items()
    ]
