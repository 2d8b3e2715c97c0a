# SPDX-License-Identifier: Apache-2.0
"""The step of an optimizer: pure functions of arrays, without Variables.

**How it works.** `Engine.step` takes parameters and state as dicts of arrays by path.

1. `Engine.incoming` makes each gradient wide (float32 at least) and points it uphill. A
   gradient that is None, or that belongs to a frozen path, becomes None.
2. The stages pass state and gradients on in order (see `_stages`), and say whether a
   step is due.
3. The move computes new parameters and slots: for each parameter widen, rule,
   constrain, narrow (`OneByOne`), or one rule for all of them (`_joint.AllAtOnce`).
4. Where a stage decides at run time whether a step is due, the move is one branch of a
   `jax.lax.cond`. The other branch returns parameters, slots and count as they were.
5. The stages see the old and the new parameters, and update their counters.

The slots of a parameter hold the arrays of its rule and those of the engine
(`OF_THE_ENGINE`): a wide copy, a sum of gradients and their count, norms. A rule sees
only its own.

`opt.update` in eager code, inside `bo.jit`, and `opt.apply` all call `Engine.step`, so
they compute the same.

**What must never happen.** A write to a Variable: the caller writes all results at one
instant, or none. A Python branch on an array: it fails while tracing. A slot whose
dtype or shape differs after the step: `cond` and `scan` refuse it, and a compiled step
would compile again at each call. A number of the settings that is read as a Python
float: it would be a constant of the program, and a later change would do nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ..._typing import Array, Arrays, PyTree, Scalar, Slots, StepCount, Values
from ...errors import HyperparameterError, message
from ...runtime import cache_of, divided_as
from ._missed import counting, next_step, skipped, unless_skipped
from ._precision import extra_slots, key_for, narrow, wide, widen
from ._rows import Rows
from ._squares import bounded
from ._stages import ALL_SO_FAR, NORMS, Accumulator, Flow, Stage, State
from ._tree import named, uphill, zeros

OF_THE_ENGINE = frozenset(
    {"missed_steps", "grad_sum", "grad_count", "master", "residual", *NORMS}
)
"""The slots that no rule sees."""


class Hypers(Protocol):
    """The settings of each parameter in one step.

    Attributes:
        count: the updates done.
        programs: the traced rule of each combination of settings.
    """

    count: Any
    programs: dict[Any, Any]

    def __call__(self, path: str, param: Array) -> tuple[Any, Any]:
        """Return the group of a parameter, which constrains it, and its settings."""
        ...


Move = Callable[[dict, dict, dict, Hypers, Any, Mapping[str, Any]], tuple[dict, dict]]
"""A function of parameters, slots, gradients, settings, the number of the step and
whether each gradient is there (see `Flow.present`) to new parameters and slots."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """A step: the stages, and the move of the parameters.

    Args:
        move: moves all parameters.
        stages: in the order in which the gradients pass them.
        frozen: the paths that are not trained.
        maximize: whether to climb.
    """

    move: Move
    stages: tuple[Stage, ...] = ()
    frozen: frozenset[str] = frozenset()
    maximize: bool = False

    def step(
        self, params: PyTree, state: State, flow: Flow, hypers: Hypers
    ) -> tuple[dict[str, Any], State]:
        """Return parameters and state after one step.

        Args:
            params: by path.
            state: ``step``, the counters, and ``slots``.
            flow: the gradients, weight and limits as they come in.
            hypers: the settings.
        """
        grads = {
            path: self.incoming(path, grad, params[path])
            for path, grad in flow.grads.items()
            if grad is not None or path in params
        }
        flow = flow._replace(grads=grads)
        for stage in self.stages:
            state, flow = stage.before(state, flow)
        # Rules count from 1. The new count is stored only if the step is taken: bias
        # correction by a count of skipped steps would divide by too much.
        count, slots = state["step"], state["slots"]
        following = next_step(count)

        def take():
            present = flow.present
            moved = self.move(params, slots, flow.grads, hypers, following, present)
            return *moved, following

        if flow.due is None:
            new, slots, count = take()
        else:
            # A cond, and not a `where` on each array: the branch that is not taken is
            # not run (only `vmap` runs both), so a micro-batch pays for no rule.
            # Both must return equal structures, so the counts that `skipped` adds are
            # there before.
            slots = {
                path: counting(held) if flow.grads.get(path, held) is None else held
                for path, held in slots.items()
            }
            stay = params, slots, count
            # On an Explicit mesh both branches divide their results alike.
            new, slots, count = jax.lax.cond(
                flow.due, lambda: jax.tree.map(divided_as, take(), stay), lambda: stay
            )
        state = {**state, "slots": slots, "step": count}
        for stage in self.stages:
            state = stage.after(state, params, new)
        return new, state

    def incoming(self, path: str, grad: PyTree, param: Array) -> Any:
        """Return a gradient for stages and rules: wide, uphill of the loss."""
        if grad is None or path in self.frozen:
            return None
        is_summed = any(isinstance(stage, Accumulator) for stage in self.stages)
        if isinstance(grad, Rows) and is_summed:
            raise HyperparameterError(message("Row gradients cannot be accumulated."))
        # Wide before any stage: squares of float16 gradients overflow from 256 on.
        grad = grad.astype(wide(param.dtype))
        if isinstance(grad, Rows):
            grad = grad.summed(param.shape[0])
        # jax.grad returns ∂L/∂x - i ∂L/∂y; uphill is its conjugate.
        grad = uphill(grad)
        # Negated here, once: stages and rules only ever descend.
        return -grad if self.maximize else grad


@dataclasses.dataclass(frozen=True)
class OneByOne:
    """Moves each parameter by itself.

    Args:
        rule: one step of one parameter.
        precision: how small changes of narrow parameters survive.
        seed: of stochastic rounding.
        squares: how many squares of a gradient the rule sums, see `_squares.bounded`.
    """

    rule: Callable[..., tuple[Any, dict[str, Any]]]
    precision: str
    seed: int
    squares: int

    def __call__(
        self,
        params: Arrays,
        slots: dict[str, Slots],
        grads: Values,
        hypers,
        step: StepCount,
        present: Mapping[str, Any],
    ) -> tuple[dict, dict]:
        """Return all parameters and slots after one step."""
        new, new_slots = {}, {}
        for path, param in params.items():
            held = slots[path]
            moved = self._one(path, grads[path], param, held, hypers, step)
            new[path], new_slots[path] = unless_skipped(
                path, present, moved, param, held
            )
        return new, new_slots

    def _one(
        self, path, grad: Array, param: Array, slots: Slots, hypers, step: StepCount
    ) -> tuple[Any, dict]:
        if grad is None:
            return param, skipped(slots)
        group, hyper = hypers(path, param)
        if "missed_steps" in slots:
            # Its moments have seen fewer gradients than the others, so its bias
            # correction goes by the steps that it has taken itself.
            step, hyper = step - slots["missed_steps"], hyper.with_own_step()
        elif hyper in hypers.programs and self.precision != "stochastic":
            program = hypers.programs[hyper] or jax.jit(self._mover(group, hyper))
            hypers.programs[hyper] = program
            # The function exists for this step alone, and its numbers are arguments. So
            # the cache that all frames share cannot hold a trace with older values.
            with cache_of(None):
                return program(hyper.arrays(), grad, param, slots, step)
        else:
            # The first variable with these settings, or a key that differs by path.
            hypers.programs[hyper] = None
        key = rounding_key(self.precision, self.seed, hypers.count, path)
        return self._move(group, hyper, grad, param, slots, step, key)

    def _mover(self, group: Any, hyper: Any) -> Any:
        # Most variables differ in nothing but their shape. Tracing the rule once a
        # shape, not once a variable, halves the time of the first call. The variable
        # that came first has shown which numbers the rule asks for; they are passed.
        def move(
            arrays: PyTree, grad: Array, param: Array, slots: Slots, step: StepCount
        ):
            view = hyper.with_arrays(arrays, step)
            return self._move(group, view, grad, param, slots, step, None)

        return move

    def _move(
        self,
        group,
        hyper,
        grad: Array,
        param: Array,
        slots: Slots,
        step: StepCount,
        key,
    ) -> tuple[Any, dict]:
        own = {k: v for k, v in slots.items() if k not in OF_THE_ENGINE}
        grad = bounded(grad, own, self.squares)
        new, new_slots = self.rule(grad, widen(param, slots), own, hyper, step)
        # Constrained before it is narrowed: the wide copy must obey the bounds too, or
        # it would drift away from the parameter that is used.
        new = group.constrain(new, hyper)
        new, extra = narrow(new, param.dtype, slots, key)
        # Rules compute in the dtype of computation; slots such as ``mu_dtype`` are
        # stored in their own.
        kept = {name: new_slots[name].astype(own[name].dtype) for name in own}
        return new, {**slots, **kept, **extra}


def first_slots(
    own: Values, param: Array, precision: str, sums: bool, norms: bool
) -> dict:
    """Return the slots of one parameter: those of the rule, and of the engine."""
    slots = {**own, **extra_slots(precision, param)}
    if sums:
        count = jnp.full((), ALL_SO_FAR, jnp.int32)
        slots |= {"grad_sum": zeros(param), "grad_count": count}
    return slots | (dict.fromkeys(NORMS, jnp.zeros(())) if norms else {})


def rounding_key(precision: str, seed: int, count: StepCount, path: str) -> Any:
    """Return the key for one parameter in one step, None where none is needed."""
    return key_for(seed, count, path) if precision == "stochastic" else None


def as_flow(
    grads: PyTree, weight: Scalar | None = None, limits: Values | None = None
) -> Flow:
    """Return the flow at the entry of the stages."""
    return Flow(dict(named(grads, none=True)), None, weight, limits or {}, {})
