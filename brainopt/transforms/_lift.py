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

from ..core import Node, Variable
from ..core._operators import ArrayLike, unwrap
from ..core._trace import Frame, Lesson, commit, read, top

Bindings = Iterable[tuple[Variable, Any]]


@jax.tree_util.register_pytree_node_class
class Packed:
    """A Node on its way through a transform: the values, and how to rebuild it.

    A Node is rebuilt in the frame that goes on with it, so that its new Variables
    live as long as that frame.
    """

    __slots__ = ("leaves", "tree")

    def __init__(self, leaves: Sequence[Any], tree: Any):
        self.leaves = leaves
        self.tree = tree

    def tree_flatten(self):
        return tuple(self.leaves), self.tree

    @classmethod
    def tree_unflatten(cls, tree, leaves):
        return cls(leaves, tree)


def is_state(x: Any) -> bool:
    """Whether ``x`` is a Variable, a view or a Node."""
    return isinstance(x, ArrayLike | Node)


def is_view(x: Any) -> bool:
    """Whether ``x`` is like an array, but unknown to JAX."""
    return isinstance(x, ArrayLike) and not isinstance(x, Variable)


def pack(tree: Any) -> Any:
    """Return ``tree`` with values in the place of Variables, and Nodes packed."""

    def replace(x):
        return Packed(*jax.tree.flatten(x)) if isinstance(x, Node) else unwrap(x)

    return jax.tree.map(replace, tree, is_leaf=is_state)


def unpack(tree: Any) -> Any:
    """Return ``tree`` with a new Node in the place of each packed one."""

    def is_packed(x):
        return isinstance(x, Packed)

    def replace(x):
        return jax.tree.unflatten(x.tree, x.leaves) if is_packed(x) else x

    return jax.tree.map(replace, tree, is_leaf=is_packed)


class Run:
    """One run of a function in a frame of its own.

    Attributes:
        out: what the function returned, packed.
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
            self._run(frame, function, args, kwargs)

    def _run(self, frame: Frame, function, args, kwargs) -> None:
        args, kwargs = unpack((tuple(args), kwargs or {}))
        self.out = pack(function(*args, **kwargs))
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
        if set(seen.written) <= set(lesson.written) and (
            set(seen.known) <= set(lesson.known)
        ):
            break
        lesson = merge(lesson, seen)
        lesson.inner = seen.inner
    if frame is not None:
        frame.inner.append(Lesson(lesson.written, seen.inner, lesson.known))
    return result


def merge(*lessons: Lesson) -> Lesson:
    """Join what several runs touched; the inner lessons stand in order."""
    written = dict.fromkeys(v for lesson in lessons for v in lesson.written)
    known = dict.fromkeys(v for lesson in lessons for v in lesson.known)
    inner = [inner for lesson in lessons for inner in lesson.inner]
    return Lesson(written, inner, known)


def as_operands(operands: Any) -> tuple[Any, ...]:
    """Return operands as a packed tuple; a tuple is many."""
    many = operands if isinstance(operands, tuple) else (operands,)
    return tuple(pack(operand) for operand in many)


def run_directly(function: Callable, args: Sequence[Any]) -> Any:
    """Run ``function`` as Python, for `jax.disable_jit`; write when it succeeded."""
    run = Run(function, args)
    commit(run.lesson.written, run.results(run.lesson.written))
    return unpack(run.out)


__all__ = [
    "Packed",
    "Run",
    "as_operands",
    "commit",
    "is_state",
    "is_view",
    "merge",
    "pack",
    "read",
    "run_directly",
    "settle",
    "unpack",
]
