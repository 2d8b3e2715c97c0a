# SPDX-License-Identifier: Apache-2.0
"""Steps of an optimizer: Variables are read, a pure step runs, results are written.

**How it works.** `update` reads the Variables, calls the engine, and writes all results
at one instant. The functional core does the same with a state that the caller keeps.

In eager code the step is a function of `bo.jit`: it donates what nobody else holds, is
whole for signals and threads, traces anew where a setting has changed, and finds an
earlier program again when the setting is back. Inside a trace it is a part of that.

**What must never happen.** A result that is written apart from the others: an interrupt
between them leaves weights of one step with moments of another. A state of `init` that
shares an array with a Variable: the caller may donate it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

import jax

from .. import runtime
from .._compat import config, is_eager
from .._typing import Array, PyTree, Scalar, StepCount
from ..core import Variable, collect_vars
from ..errors import HyperparameterError, message
from ..runtime import depend_on
from ..transforms import jit
from .engine._dependencies import run_reading
from .engine._stages import Stage
from .engine._step import as_flow, first_slots
from .engine._tree import named

_COUNTED = ("step", "counters.")
"""How the paths of the Variables begin that each step reads and writes."""


def owned(optimizer: Any) -> dict[str, Variable]:
    """Return the Variables an optimizer owns besides the slots, by path."""
    attributes = optimizer._owned_attributes()
    kept = {k: v for k, v in attributes if k not in ("", "slots")}
    return collect_vars(kept).unique()


def first_counters(stages: Iterable[Stage]) -> dict[str, Variable]:
    """Return the counters of the stages at their first values."""
    return {
        name: Variable(value)
        for stage in stages
        for name, value in stage.first().items()
    }


def check_weight(optimizer: Any, weight: Scalar | None) -> None:
    """Raise `HyperparameterError` for a weight that nothing would use."""
    if weight is not None and "micro_batches" not in optimizer.counters:
        raise HyperparameterError(
            message("A weight needs micro-batches.", help="give `accumulate=`.")
        )


def hypers_of(
    optimizer: Any,
    count: StepCount | None = None,
    around: Mapping[str, Any] | None = None,
) -> Any:
    """Return the settings of each variable in the step that follows ``count``.

    Args:
        optimizer: whose they are.
        count: the updates done; None for those of the optimizer.
        around: the true parameters, for a rule that runs at 0.
    """
    now: StepCount = optimizer.step.value if count is None else count
    return optimizer._settings.hypers(optimizer.mask, now, around)


def slots_of(optimizer: Any, path: str, param: Array, hypers: Any) -> dict[str, Any]:
    """Return the first slots of one parameter."""
    own = optimizer.init_slots(param, hypers(path, param)[1])
    is_summed = "micro_batches" in optimizer.counters
    is_noted = optimizer.monitor == "variables"
    return first_slots(own, param, optimizer.precision, is_summed, is_noted)


def slot_variables(
    optimizer: Any, path: str, param: Array, hypers: Any
) -> dict[str, Variable]:
    """Return the first slots of one parameter as Variables, named for errors."""
    slots = slots_of(optimizer, path, param, hypers)
    return {k: Variable(v, name=f"{path}.{k}".strip(".")) for k, v in slots.items()}


def advance(
    optimizer: Any,
    params: PyTree,
    state: PyTree,
    grads: PyTree,
    weight: Scalar | None,
    around: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Return the parameters, and the part of the state that a step may change."""
    # A function compiled around this step traces anew after a change of the settings.
    depend_on(optimizer._revision)
    given = dict(named(params))

    def body() -> tuple[dict, dict]:
        flow = as_flow(grads, weight, _limits(optimizer))
        counted = {k: v for k, v in state.items() if k.startswith((*_COUNTED, "slots"))}
        hypers = hypers_of(optimizer, counted["step"], around)
        return optimizer._engine(given).step(given, counted, flow, hypers)

    new, after = run_reading(optimizer, owned(optimizer), state, body)
    leaves = [new[path] for path, _ in named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves), after


def _limits(optimizer: Any) -> dict[str, Any]:
    numbers = vars(optimizer).get("numbers")
    return {} if numbers is None else {n: numbers.number(n) for n in numbers.names}


def update(optimizer: Any, grads: PyTree, weight: Scalar | None) -> None:
    """Take one step with gradients by path."""
    optimizer._note_packs()
    inside = runtime.top() is not None or not is_eager()
    if inside or config.jax_disable_jit or not optimizer._may_compile():
        step = functools.partial(advance, optimizer)
    elif all(map(_is_direct, optimizer._trained.variables.values())):
        _compiled(_update, optimizer)(grads, weight)
        return
    else:
        # A model that no transform can see: its values go in and out by hand.
        step = _compiled(advance, optimizer)
    # All of it: another thread must not step between the reads and the writes.
    with runtime.exclusive():
        _update(optimizer, grads, weight, step)


_is_direct = attrgetter("_direct")


def _update(
    optimizer: Any,
    grads: PyTree,
    weight: Scalar | None,
    step: Callable[..., tuple[Any, dict[str, Any]]] | None = None,
) -> None:
    # Only what the step uses is read: each Variable that is read in a trace becomes an
    # input of the program around.
    own = counters(owned(optimizer))
    params = optimizer._trained.values()
    state = {path: variable.value for path, variable in own.items()}
    state |= slot_values(optimizer)
    step = step or functools.partial(advance, optimizer)
    new, after = step(params, state, grads, weight)
    runtime.commit(*results(optimizer, own, new, after))


def _compiled(function: Callable, optimizer: Any) -> Callable[..., Any]:
    """Return a function of an optimizer as `bo.jit` makes it, once for each."""
    kept = vars(optimizer).setdefault("_compiled", {})
    if function not in kept:
        # By a weak reference: a program must not keep the optimizer alive.
        owner = weakref.ref(optimizer)

        def update(*args: Any) -> Any:
            return function(owner(), *args)

        update.__qualname__ = f"{type(optimizer).__name__}.update"  # in errors of JAX
        kept[function] = jit(update)
    return kept[function]


def flush(optimizer: Any) -> None:
    """Take the step of an incomplete window, if there is one."""
    if "micro_batches" in optimizer.counters:
        update(optimizer, {}, None)


def slot_values(optimizer: Any) -> dict[str, Any]:
    """Return ``{"slots": {path: {name: value}}}`` of what a step needs."""
    return {"slots": {k: _needed(slots) for k, slots in optimizer.slots.items()}}


def _needed(slots: Mapping[str, Variable]) -> dict[str, Any]:
    # See `_stages.Accumulator`: a count that nobody needs would be one more array in
    # and out of each step, which is seen where arrays are small.
    is_counted = "missed_steps" in slots
    return {
        name: variable.value
        for name, variable in tuple(slots.items())
        if is_counted or name != "grad_count"
    }


def counters(own: Mapping[str, Variable]) -> dict[str, Variable]:
    """Return those Variables that every step reads and writes."""
    return {k: v for k, v in own.items() if k.startswith(_COUNTED)}


def results(
    optimizer: Any, own: Mapping[str, Variable], params: PyTree, after: PyTree
) -> tuple[list[Variable], list[Any]]:
    """Return the parameters, counters and slots as Variables, and their new values."""
    # Slots go by the Variables that exist, not by what the step returned: a slot of
    # missed steps that it added has no Variable to be written to.
    targets = [optimizer._trained.variables[path] for path in params]
    targets += [own[path] for path in after if path != "slots"]
    values = [*params.values(), *(v for k, v in after.items() if k != "slots")]
    for path, held in optimizer.slots.items():
        new = after["slots"][path]
        kept = [(held[name], new[name]) for name in tuple(held) if name in new]
        targets += [variable for variable, _ in kept]
        values += [value for _, value in kept]
    return targets, values
