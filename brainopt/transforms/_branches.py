# SPDX-License-Identifier: Apache-2.0
"""Branches over Variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..core._trace import Lesson
from ._lift import Run, as_operands, commit, merge, plain, read, run_directly, settle


def branch(
    choose: Callable[[Sequence[Callable], Any], Any],
    branches: Sequence[Callable],
    operands: tuple[Any, ...],
) -> Any:
    """Run one of ``branches``; a Variable written in any of them is threaded in all.

    Args:
        choose: ``(pure branches, operands) -> result`` by a JAX primitive.
        branches: functions of ``operands``.
        operands: their arguments.
    """

    def discover() -> Lesson:
        seen: list[Lesson] = []
        for function in branches:

            def abstract(*xs, function=function):
                run = Run(function, xs)
                seen.append(run.lesson)
                return run.out

            jax.eval_shape(abstract, *operands)
        return Lesson(merge(*seen).written, [Lesson((), s.inner) for s in seen])

    def attempt(lesson: Lesson):
        seen = [Lesson()] * len(branches)

        def pure(i):
            hint = lesson.inner[i] if lesson.inner else None

            def run_branch(*xs):
                run = Run(branches[i], xs, lesson=hint)
                seen[i] = run.lesson
                return run.out, run.results(lesson.written)

            return run_branch

        out, values = choose([pure(i) for i in range(len(branches))], operands)
        learned = Lesson(merge(*seen).written, [Lesson((), s.inner) for s in seen])
        return (out, lesson.written, values), learned

    out, written, values = settle(discover, attempt)
    commit(written, values)
    return out


def cond(pred: Any, true_fun: Any, false_fun: Any, operands: Any = ()) -> Any:
    """Run ``true_fun`` or ``false_fun``, by the value of ``pred``.

    Args:
        pred: a scalar; true where it is not zero.
        true_fun: a function of the operands, or a constant to return.
        false_fun: the same for a false ``pred``; both return equal structures.
        operands: one operand, or a tuple of them.

    Example:
        >>> import brainopt as bo
        >>> spikes = bo.Variable(0)
        >>> def fire():
        ...     spikes.value += 1
        >>> bo.cond(True, fire, None)
        >>> int(spikes)
        1
    """
    pred = plain(pred)

    def choose(branches, operands):
        return jax.lax.cond(jnp.asarray(pred) != 0, *branches, *operands)

    branches = [_function(true_fun), _function(false_fun)]
    if jax.config.jax_disable_jit:
        return run_directly(branches[0 if pred else 1], as_operands(operands))
    return branch(choose, branches, as_operands(operands))


def _function(value: Any) -> Callable:
    return value if callable(value) else lambda *_: value
