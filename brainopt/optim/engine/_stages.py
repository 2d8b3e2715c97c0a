# SPDX-License-Identifier: Apache-2.0
"""Stages: pairs of functions around the move of the parameters.

**How it works.** A stage is a pair of pure functions, one before the parameters move
and one after. Each takes the state of the optimizer, a dict of arrays, and returns it
with its own counters changed. Stages compose in a list; one that is not asked for is
not in it, and costs nothing. The order is that of `settings._shared.stages`:

1. `_loss_scale.Unscale`: all others see the gradients of the loss itself.
2. `Guard`: one NaN in a sum of micro-batches would stay there for good. It looks at the
   sum as it would be, so a sum that overflows is kept out, too.
3. `Accumulator`: all that follows sees the mean of the micro-batches.
4. `Monitor`: notes the norm of the gradients as they were computed, before clipping.
5. `Clip`: the last, so that the limit holds for what the rule is given.

A stage says in ``flow.due`` whether the parameters move; the engine does nothing else
with it than choose a branch.

**What must never happen.** A counter or sum that changes its dtype or shape: a `scan`
over steps refuses it. A guard behind the accumulator. A stage that ignores an earlier
``due`` when it sets its own: a step with bad gradients would be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp

from ..._typing import PyTree
from ._gradients import all_finite, clip_by_global_norm, clip_by_value, global_norm
from ._missed import counting, next_step
from ._rows import as_rows, row_values

Nonfinite = Literal["propagate", "skip", "raise"]
Monitored = bool | Literal["variables"]
State = dict[str, Any]


class Flow(NamedTuple):
    """Data of one step, passed from stage to stage.

    Attributes:
        grads: by path; None where a parameter is skipped.
        due: whether the parameters move, a 0-d bool array; None for always.
        weight: of this micro-batch, or None.
        limits: the numbers of the stages, by name.
        present: whether a parameter has a gradient, a 0-d bool array, where only the
            run can tell; all others have the one in ``grads``.
    """

    grads: dict[str, Any]
    due: Any
    weight: Any
    limits: Mapping[str, Any]
    present: dict[str, Any]


class Stage:
    """A stage that changes nothing; others replace a function or both.

    Attributes:
        counters: the names of the counters it keeps, and their dtypes.
    """

    counters: ClassVar[dict[str, Any]] = {}

    def first(self) -> dict[str, Any]:
        """Return the first value of each counter."""
        return {name: jnp.zeros((), dtype) for name, dtype in self.counters.items()}

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the state and the gradients for the next stage."""
        return state, flow

    def after(self, state: State, old: PyTree, new: PyTree) -> State:
        """Return the state after the parameters went from ``old`` to ``new``."""
        return state


class Guard(Stage):
    """Keeps non-finite gradients out, and counts them.

    A step with such a gradient changes neither parameters nor slots nor the step count.

    Args:
        sums: returns the sums of micro-batches with these gradients in them, see
            `Accumulator.added`; a sum may overflow where each gradient is finite.
    """

    counters: ClassVar = {"skipped": jnp.int32, "in_a_row": jnp.int32}

    def __init__(self, sums: Callable[[State, Flow], PyTree] | None = None):
        self.sums = sums

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the counts, and whether all gradients are finite."""
        if not flow.grads:
            return state, flow
        values = self.sums(state, flow) if self.sums else row_values(flow.grads)
        state, is_finite = self.admit(state, values)
        return state, flow._replace(due=is_finite)

    def admit(self, state: State, values: PyTree) -> tuple[State, Any]:
        """Return the counts, and whether all values are finite."""
        is_finite = all_finite(values)
        skipped, row = state["counters.skipped"], state["counters.in_a_row"]
        counts = {
            "counters.skipped": jnp.where(is_finite, skipped, next_step(skipped)),
            "counters.in_a_row": jnp.where(is_finite, 0, next_step(row)),
        }
        return {**state, **counts}, is_finite


ALL_SO_FAR = -1


class Accumulator(Stage):
    """Sums gradients of micro-batches; every so many, their weighted mean steps.

    The sums lie in the slots of the parameters. A parameter that had no gradient in the
    whole window has none in the step, so its gradients are counted there, too; below 0
    stands for one in each micro-batch so far. Only parameters that have ever been
    without one need that count, and others may come without it. A flow without any
    gradients is no micro-batch: those so far make the step.

    Args:
        frozen: the paths whose gradients do not count.
    """

    counters: ClassVar = {"micro_batches": jnp.int32, "weight": float}

    def __init__(self, frozen: frozenset[str]):
        self.frozen = frozen

    def added(self, state: State, flow: Flow) -> dict[str, Any]:
        """Return by path the sums with the gradients of this micro-batch in them."""
        weight = self._weight(state, flow)
        return {
            path: own["grad_sum"] + weight.astype(own["grad_sum"].dtype) * grad
            for path, own in state["slots"].items()
            if "grad_sum" in own and (grad := flow.grads.get(path)) is not None
        }

    def _weight(self, state: State, flow: Flow) -> Any:
        weight = 1 if flow.weight is None else flow.weight
        return jnp.asarray(weight, state["counters.weight"].dtype)

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the sums, the mean so far, and whether a step is due."""
        # No stage before this one but the guard says it, so ``due`` means "finite". A
        # micro-batch that it refuses has weight 0 and is not counted.
        is_finite = jnp.ones((), bool) if flow.due is None else flow.due
        total = state["counters.weight"]
        before = seen = state["counters.micro_batches"]
        weight = self._weight(state, flow)
        weight = jnp.where(is_finite, weight, jnp.zeros_like(weight))
        added = self.added(state, flow)
        if flow.grads:
            total, seen = total + weight, jnp.where(is_finite, next_step(seen), seen)
            due = is_finite & (seen >= flow.limits["accumulate"])
        else:
            due = seen > 0
        # Weights of 0 alone give a mean of 0, not 0 / 0.
        safe = jnp.where(total > 0, total, jnp.ones_like(total))
        means, slots, present = {}, {}, {}
        for path, own in state["slots"].items():
            if "grad_sum" not in own:
                continue
            held = own["grad_sum"]
            if (grad := flow.grads.get(path)) is None:
                own = counting(own)
            else:
                # A weight of 0 would not suffice: 0 times NaN is NaN.
                held = jnp.where(is_finite, added[path], held)
            # Divided at the end and not in each sum: the weights that are still to
            # come are not known before.
            mean = held / safe.astype(held.dtype)
            means[path] = None if path in self.frozen else mean
            new = {"grad_sum": jnp.where(due, jnp.zeros_like(held), held)}
            if "missed_steps" in own:
                count = own.get("grad_count", ALL_SO_FAR)
                count = jnp.where(count < 0, before, count)
                if grad is not None:
                    count = jnp.where(is_finite, next_step(count), count)
                present[path] = count > 0
                new["grad_count"] = jnp.where(due, ALL_SO_FAR, count)
            slots[path] = {**own, **new}
        state = {
            **state,
            "slots": {**state["slots"], **slots},
            "counters.micro_batches": jnp.where(due, jnp.zeros_like(seen), seen),
            "counters.weight": jnp.where(due, jnp.zeros_like(total), total),
        }
        return state, flow._replace(grads=means, due=due, present=present)


NORMS = ("grad_norm", "param_norm", "update_norm")


class Monitor(Stage):
    """Notes the norms of gradients, parameters and updates.

    The global ones are counters. Where the slots of a parameter have places for its
    own norms, these are noted there.
    """

    counters: ClassVar = dict.fromkeys(NORMS, float)

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the norm of the gradients that came in."""
        return self.note(state, grad_norm=row_values(flow.grads)), flow

    def after(self, state: State, old: PyTree, new: PyTree) -> State:
        """Return the norms of the parameters before the step, and of their change."""
        change = {path: new[path] - param for path, param in old.items()}
        return self.note(state, param_norm=old, update_norm=change)

    def note(self, state: State, **trees: Mapping[str, Any]) -> State:
        """Return the state with the norm of each tree of arrays by path."""
        norms, slots = {}, dict(state["slots"])
        for name, tree in trees.items():
            kept = f"counters.{name}"
            norms[kept] = jnp.asarray(global_norm(tree)).astype(state[kept].dtype)
            for path, leaf in tree.items():
                if leaf is not None and name in slots.get(path, ()):
                    own = jnp.asarray(global_norm(leaf), slots[path][name].dtype)
                    slots[path] = {**slots[path], name: own}
        return {**state, **norms, "slots": slots}


class Clip(Stage):
    """Clips gradients by value, then by their global norm over all groups."""

    def before(self, state: State, flow: Flow) -> tuple[State, Flow]:
        """Return the gradients, clipped."""
        # Rows are clipped as arrays: the rows left out are 0 and add nothing to a norm.
        # By value first: a single huge element then does not shrink all others.
        grads = row_values(flow.grads)
        if "clip_value" in flow.limits:
            grads = clip_by_value(grads, flow.limits["clip_value"])
        if "clip_norm" in flow.limits:
            grads = clip_by_global_norm(grads, flow.limits["clip_norm"])
        return state, flow._replace(grads=as_rows(grads, flow.grads))
