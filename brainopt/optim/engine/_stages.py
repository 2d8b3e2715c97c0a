# SPDX-License-Identifier: Apache-2.0
"""What an optimizer does to gradients before its rule: check, collect, clip, watch.

Each part is a Node with its own counters; one that is not asked for does not exist.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ...core import Variable
from ...errors import GradientError, HyperparameterError, message
from ...runtime import depend_on
from .._hyperparameters import HasHyperparams, HyperparamVector, scalar
from ._gradients import all_finite, clip_by_global_norm, clip_by_value, global_norm

Nonfinite = Literal["propagate", "skip", "raise"]


def _count() -> Variable:
    return Variable(jnp.zeros((), jnp.int32))


class Guard(HasHyperparams):
    """Keeps non-finite gradients out and counts them.

    A step that meets one changes neither parameters nor slots nor the step count.

    Args:
        limit: so many bad steps in a row raise; None for never. However many come,
            none is accepted.

    Attributes:
        skipped: bad steps so far.
        in_a_row: bad steps since the last good one.
    """

    def __init__(self, limit: int | None):
        if limit is not None and not (is_whole(limit) and limit >= 1):
            raise HyperparameterError(
                message(f"max_nonfinite={limit!r} is no whole number in [1, inf).")
            )
        self.limit = limit
        self.skipped = _count()
        self.in_a_row = _count()
        self.tripped = False

    def admit(self, grads: Any) -> Any:
        """Return whether all gradients are finite, and count."""
        fine = all_finite(grads)
        row = self.in_a_row.value
        self.skipped.value = self.skipped.value + (~fine).astype(jnp.int32)
        self.in_a_row.value = jnp.where(fine, jnp.zeros_like(row), row + 1)
        return fine

    def watch(self) -> None:
        """Raise once the limit is reached; inside a compiled step, at its next call.

        Raises:
            GradientError: gradients were not finite so many times in a row.
        """
        if self.limit is None:
            return
        row = self.in_a_row.value
        if isinstance(row, Tracer):
            jax.debug.callback(self._trip, row)
        elif int(row) >= self.limit:
            self.complain(int(row))

    def _trip(self, row: Any) -> None:
        # A compiled step runs no Python. Declaring it out of date makes its next call
        # trace, and `before` raises there; the state is that of the last good step.
        if row.max() >= self.limit:
            vars(self)["tripped"] = True
            self.revision.changed()

    def before(self) -> None:
        """Raise if a compiled step has reached the limit since."""
        depend_on(self.revision)
        if self.tripped:
            vars(self)["tripped"] = False
            self.complain(self.limit)

    def complain(self, row: Any) -> None:
        """Raise `GradientError`."""
        raise GradientError(
            message(
                f"The gradients were not finite {row} times in a row; none of these "
                f"steps was taken.",
                help="lower the learning rate, clip the gradients, or look for the "
                "first bad one with jax_debug_nans.",
            )
        )


def is_whole(number: Any) -> bool:
    """Whether ``number`` is an integer, of Python or numpy."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def make_guard(policy: str, limit: int | None) -> Guard | None:
    """Return the guard for a policy, or None for ``"propagate"``."""
    if policy not in ("propagate", "skip", "raise"):
        raise HyperparameterError(
            message(f"nonfinite={policy!r}.", help="'propagate', 'skip' or 'raise'.")
        )
    if policy == "propagate":
        if limit is not None:
            raise HyperparameterError(
                message(
                    "max_nonfinite= counts steps that are not taken.",
                    help="give nonfinite='skip' or 'raise' too.",
                )
            )
        return None
    return Guard(1 if policy == "raise" and limit is None else limit)


class Accumulator(HasHyperparams):
    """Collects gradients of micro-batches; every so many, their weighted mean steps.

    Args:
        every: micro-batches to a step; ``opt.accumulator.every = 8`` changes it
            without compiling.
    """

    def __init__(self, every: int):
        if not is_whole(every):
            raise HyperparameterError(
                message(f"accumulate={every!r} is no whole number in [1, inf).")
            )
        self.numbers = HyperparamVector(
            {"every": int(every)}, (), "accumulate", {"every": "[1, inf)"}
        )
        self.seen = _count()
        self.total = Variable(jnp.zeros((), float))

    def add(
        self, grads: dict[str, Any], slots: dict[str, Any], weight: Any, fine: Any
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Return the mean so far, the sums to keep, and whether a step is due."""
        weight = jnp.asarray(1 if weight is None else weight, self.total.value.dtype)
        weight = jnp.where(fine, weight, jnp.zeros_like(weight))
        total = self.total.value + weight
        seen = self.seen.value + fine.astype(jnp.int32)
        due = fine & (seen >= self.every)
        safe = jnp.where(total > 0, total, jnp.ones_like(total))
        means, sums = {}, {}
        for path, grad in grads.items():
            held = slots[path]["grad_sum"]
            if grad is not None:
                grad = jnp.where(fine, grad, jnp.zeros_like(grad))
                held = held + weight.astype(held.dtype) * grad
            means[path] = held / safe.astype(held.dtype)
            sums[path] = jnp.where(due, jnp.zeros_like(held), held)
        self.seen.value = jnp.where(due, jnp.zeros_like(seen), seen)
        self.total.value = jnp.where(due, jnp.zeros_like(total), total)
        return means, sums, due


class Clip(HasHyperparams):
    """Clips gradients by value, then by their global norm over all groups.

    Args:
        norm: the largest global norm, or None.
        value: the largest size of an element, or None.
    """

    def __init__(self, norm: Any, value: Any):
        given = {"clip_norm": norm, "clip_value": value}
        values = {n: scalar(v, n) for n, v in given.items() if v is not None}
        self.numbers = HyperparamVector(
            values, (), "clip", dict.fromkeys(values, "(0, inf)")
        )

    def __call__(self, grads: Any) -> Any:
        """Return the gradients, clipped."""
        if "clip_value" in self.numbers.names:
            grads = clip_by_value(grads, self.clip_value)
        if "clip_norm" in self.numbers.names:
            grads = clip_by_global_norm(grads, self.clip_norm)
        return grads


class Monitor(HasHyperparams):
    """Remembers the norms of the last step.

    Attributes:
        grad_norm: global norm of the gradients that came in.
        param_norm: global norm of the parameters before the step.
        update_norm: global norm of the change.
    """

    def __init__(self):
        self.grad_norm = Variable(jnp.zeros(()))
        self.param_norm = Variable(jnp.zeros(()))
        self.update_norm = Variable(jnp.zeros(()))

    def note(self, variable: Variable, tree: Any) -> None:
        """Set one of the norms."""
        norm = jnp.asarray(global_norm(tree))
        variable.value = norm.astype(variable.value.dtype)
