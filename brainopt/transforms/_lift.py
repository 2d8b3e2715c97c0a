# SPDX-License-Identifier: Apache-2.0
"""From functions that read and write Variables to pure functions, and back.

Every transform does the same four things: it runs the function in a `Frame` whose
bindings are tracers, learns from the frame what was written, hands the new values
through JAX as ordinary results, and commits them around itself at the end. Variables
that are only read need no threading: closing over a value is what JAX does well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from ..core import Variable
from ..core._operators import ArrayLike, unwrap
from ..core._trace import Frame, Lesson, commit, read, top

Bindings = Iterable[tuple[Variable, Any]]


def plain(tree: Any) -> Any:
    """Return ``tree`` with the value in the place of each Variable."""
    return jax.tree.map(unwrap, tree, is_leaf=lambda x: isinstance(x, ArrayLike))


class Run:
    """One run of a function in a frame of its own.

    Attributes:
        out: what the function returned, Variables unwrapped.
        lesson: what it wrote, and the transforms inside it.
        values: the final value of each Variable it knew or wrote.
    """

    __slots__ = ("lesson", "out", "values")

    def __init__(
        self,
        function: Callable,
        args: Sequence[Any],
        bindings: Bindings = (),
        lesson: Lesson | None = None,
        kwargs: dict[str, Any] | None = None,
    ):
        with Frame(bindings, lesson) as frame:
            self.out = plain(function(*args, **(kwargs or {})))
            self.lesson = frame.lesson()
            self.values = frame.values

    def results(self, variables: Iterable[Variable]) -> tuple[Any, ...]:
        """Return the final values of ``variables``; outer values where unwritten."""
        return tuple(self.values[v] if v in self.values else read(v) for v in variables)


def settle(
    discover: Callable[[], Lesson],
    attempt: Callable[[Lesson], tuple[Any, Lesson]],
) -> Any:
    """Run ``attempt`` with the right set of written Variables and return its result.

    A loop or a branch must know what is written before it is traced. The lesson comes
    from an earlier run of the surrounding function or from ``discover``, so the body
    runs a number of times that grows with the depth of nesting, not with 2^depth.

    Args:
        discover: runs the bodies abstractly.
        attempt: runs them for real, threading what the lesson says, and returns the
            result and what was really learned.
    """
    frame = top()
    lesson = frame.hint() if frame is not None else None
    if lesson is None:
        lesson = discover()
    while True:
        result, seen = attempt(lesson)
        if set(seen.written) <= set(lesson.written):
            break
        lesson = merge(lesson, seen)
    if frame is not None:
        frame.inner.append(Lesson(lesson.written, seen.inner))
    return result


def merge(*lessons: Lesson) -> Lesson:
    """Join what several runs wrote; the inner lessons stand in order."""
    written = dict.fromkeys(v for lesson in lessons for v in lesson.written)
    return Lesson(written, [inner for lesson in lessons for inner in lesson.inner])


def as_operands(operands: Any) -> tuple[Any, ...]:
    """Return operands as a tuple with Variables unwrapped; a tuple is many."""
    many = operands if isinstance(operands, tuple) else (operands,)
    return tuple(plain(operand) for operand in many)


def run_directly(function: Callable, args: Sequence[Any]) -> Any:
    """Run ``function`` as Python, for `jax.disable_jit`; write when it succeeded."""
    run = Run(function, args)
    commit(run.lesson.written, run.results(run.lesson.written))
    return run.out


__all__ = [
    "Run",
    "as_operands",
    "commit",
    "merge",
    "plain",
    "read",
    "run_directly",
    "settle",
]
