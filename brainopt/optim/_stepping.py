# SPDX-License-Identifier: Apache-2.0
"""Steps of an optimizer: Variables are read, a pure step runs, results are written.

**How it works.** `update` reads the Variables, calls the engine, and writes all results
at one instant. The functional core does the same with a state that the caller keeps.

In eager code the step is one program of `jax.jit`. Programs are kept with the counts of
the revisions of the optimizer, its groups and schedules, and serve again when all of
these counts are back, as after `freeze` and `unfreeze`. Inside a trace the step becomes
a part of that trace.

**What must never happen.** A result that is written apart from the others: an interrupt
between them leaves weights of one step with moments of another. A program that is used
after a Python setting has changed which it has baked in. A state of `init` that shares
an array with a Variable: the caller may donate it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from .. import runtime
from .._compat import config, is_eager
from .._typing import Array, PyTree, Scalar, StepCount
from ..core import Variable, collect_vars
from ..errors import HyperparameterError, message
from ..runtime import depend_on
from .engine._dependencies import Dependencies
from .engine._stages import Stage
from .engine._step import as_flow, first_slots
from .engine._tree import named
from .hyperparameters._has_hyperparams import HasHyperparams

_COUNTED = ("step", "counters.")
"""How the paths of the Variables begin that each step reads and writes."""

_MAX_PROGRAMS = 16


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

    new, after = dependencies(optimizer).run(owned(optimizer), state, body)
    leaves = [new[path] for path, _ in named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves), after


def _limits(optimizer: Any) -> dict[str, Any]:
    numbers = vars(optimizer).get("numbers")
    return {} if numbers is None else {n: numbers.number(n) for n in numbers.names}


def dependencies(optimizer: Any) -> Dependencies:
    """Return the Variables of others that functions of an optimizer read."""
    held = vars(optimizer).get("_dependencies")
    if held is None:
        held = vars(optimizer)["_dependencies"] = Dependencies(type(optimizer).__name__)
    return held


def update(optimizer: Any, grads: PyTree, weight: Scalar | None) -> None:
    """Take one step with gradients by path."""
    optimizer._note_packs()
    with runtime.exclusive():
        own, program = _program(optimizer)

    def inputs() -> list[Variable]:
        slots = [v for held in optimizer.slots.values() for v in tuple(held.values())]
        return [*optimizer._trained.variables.values(), *own.values(), *slots]

    def step() -> tuple[list[Variable], list[Any]]:
        params = optimizer._trained.values()
        state = {path: variable.value for path, variable in own.items()}
        new, after = program(params, state | slot_values(optimizer), grads, weight)
        return results(optimizer, own, new, after)

    runtime.exchange(inputs, step)


def flush(optimizer: Any) -> None:
    """Take the step of an incomplete window, if there is one."""
    if "micro_batches" in optimizer.counters:
        update(optimizer, {}, None)


def slot_values(optimizer: Any) -> dict[str, Any]:
    """Return ``{"slots": {path: {name: value}}}``."""
    slots = {
        path: {name: variable.value for name, variable in tuple(slots.items())}
        for path, slots in optimizer.slots.items()
    }
    return {"slots": slots}


def counters(own: Mapping[str, Variable]) -> dict[str, Variable]:
    """Return those Variables that every step reads and writes."""
    return {k: v for k, v in own.items() if k.startswith(_COUNTED)}


def _program(optimizer: Any) -> tuple[dict[str, Variable], Callable]:
    """Return the Variables to read, and the function to call."""
    own, compiled = _compiled(optimizer)
    inside = runtime.top() is not None or not is_eager()
    if inside or config.jax_disable_jit or not optimizer._may_compile():
        # While tracing, only what the step uses is read: each Variable that is read
        # here becomes an input of the surrounding program.
        return counters(own), lambda *args: advance(optimizer, *args)
    # What a callable reads would else be a constant of the compiled function.
    return {**own, **dependencies(optimizer).reads}, compiled


def _compiled(optimizer: Any) -> tuple[dict[str, Variable], Callable]:
    cache = vars(optimizer).setdefault("_cache", [])
    # The program used last is the first; the one unused for longest is dropped.
    for compiled in cache:
        nodes, counts, own, program = compiled
        if [node._revision.count for node in nodes] == counts:
            if compiled is not cache[0]:
                cache.remove(compiled)
                cache.insert(0, compiled)
            return own, program
    below = optimizer.nodes(include_self=False).values()
    settings = [node for node in below if isinstance(node, HasHyperparams)]
    nodes = [optimizer, *settings]
    counts = [node._revision.count for node in nodes]
    # A function object of its own: JAX keeps traces by function.
    program = jax.jit(lambda *args: advance(optimizer, *runtime.on_device(args)))
    cache.insert(0, (nodes, counts, owned(optimizer), program))
    del cache[_MAX_PROGRAMS:]
    return cache[0][2:]


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
