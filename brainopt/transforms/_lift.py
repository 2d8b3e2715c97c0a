# SPDX-License-Identifier: Apache-2.0
"""Lift: functions that read and write Variables as pure functions, and back.

**How it works.** Every transform does the same four things:

1. It packs the arguments, as `_packed` says: Variables become values.
2. It gives JAX a pure function, which runs the function of the user in a `Frame`. The
   frame binds Variables to the tracers that JAX passes in (`Run`).
3. The frame has listed the Variables that were written (`Effects`). Their final values
   leave JAX as further results.
4. Outside of JAX's transform it commits these values to the frame around, or to storage
   where there is none.

A Variable that is only read need not be threaded: JAX closes over values well.

Where the pure function may return more than before (`lift`, gradients), one run is
enough. A loop or a branch has a fixed set of carried values, so `run_to_fixed_point`
looks for the set with abstract values first, and tries again as long as the real run
writes more. What was found goes to the frame around, which hands it to the same
transform in its next run (`Frame.cached_effects`): otherwise the number of runs would
double with each level of nesting.

The first trace of a compiled function only looks for Variables. There loops and
gradients are not built: their results are placeholders (`Sealed`, `discovering`).

**What must never happen.** A value that is committed inside JAX's transform: it is a
tracer that ends with it. A call that does not take exactly one entry of the cached
effects and add exactly one: they belong to the calls by their order, so each later
transform would get those of another one. A placeholder in a program that is kept: the
frame notes `skipped_work`, and the trace is given up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .._compat import is_key_array
from .._typing import PyTree
from ..core import Node, as_transform
from ..runtime import (
    Cell,
    Effects,
    Facts,
    Frame,
    Outermost,
    commit,
    inside_framework,
    merge,
    read,
    read_outside,
    rehearse,
    top,
)
from ._packed import held, pack, unpack, warn_of_lost
from ._prints import HeldPrints
from ._records import passed_on
from ._returned import refuse_traced

Bindings = Iterable[tuple[Cell, Any]]


def result_of(function: Callable, args: Sequence[PyTree], kwargs: dict) -> Any:
    """Return what a call returns and records.

    Raises:
        TraceContextError: it is a Node that keeps arrays of the trace.
    """
    out = passed_on(function, *args, **kwargs)
    refuse_traced(out)
    return out


class Run:
    """One run of a function in a frame of its own.

    Attributes:
        out: what the function returned and recorded, packed.
        effects: what it wrote, and the transforms inside it.
        reads: the Variables it read.
        values: the final value of each Variable it knew or wrote.
    """

    __slots__ = ("effects", "out", "reads", "values")

    def __init__(
        self,
        function: Callable,
        args: Sequence[PyTree],
        bindings: Bindings = (),
        effects: Effects | None = None,
        kwargs: dict[str, Any] | None = None,
    ):
        with Frame(bindings, effects) as frame:
            self._run(frame, function, args, kwargs)

    def _run(self, frame: Frame, function, args: Sequence[PyTree], kwargs) -> None:
        made: list[Node] = []
        args, kwargs = unpack((tuple(args), kwargs or {}), made)
        before = dict(frame.values) if made else {}
        out = result_of(function, args, kwargs)
        self.out = pack(out)
        if made:
            warn_of_lost(function, made, before, frame, out)
        self.effects = frame.effects()
        self.values = frame.values
        self.reads = frame.reads

    def results(self, variables: Iterable[Cell]) -> tuple[Any, ...]:
        """Return the final values of ``variables``; outer values where unwritten."""
        return tuple(self.values[v] if v in self.values else read(v) for v in variables)


class DiscoveryRun(Run):
    """A run that only looks for effects, and leaves nothing on Nodes."""

    __slots__ = ()

    def _run(self, frame: Frame, function, args: Sequence[PyTree], kwargs) -> None:
        rehearse()
        super()._run(frame, function, args, kwargs)


class Sealed(Frame):
    """The body of a compiled function, whose trace outlives its surroundings.

    Values of unknown Variables may not be closed over; they are listed as missing, and
    a stand-in lets the run go on to find the others. (A trace that is given up keeps
    the arrays it closed over for a while, and they would pass for shared.)

    Args:
        bindings: the value of each known Variable.
        effects: those of an earlier run.
        discovery_only: whether the trace is given up afterwards, so that it only has
            to find Variables: loops are not built then, and gradients not taken.
        facts: where the attributes of Nodes that are read are recorded.

    Attributes:
        skipped_work: whether something was left out.
    """

    def __init__(
        self,
        bindings: Bindings,
        effects: Effects,
        discovery_only: bool,
        facts: Facts | None = None,
    ):
        super().__init__(bindings, effects, sealed=True, facts=facts)
        self.discovery_only = discovery_only
        self.skipped_work = False

    def read(self, variable: Cell) -> Any:
        """Return the value inside this run."""
        if variable in self.values:
            return self.values[variable]
        return self.bind(variable, read_outside(self.parent, variable))

    def bind(self, variable: Cell, value: PyTree) -> Any:
        """Return a stand-in for the value of an unknown Variable."""
        self.missing[variable] = None
        # Made in the trace that asks, so it may not be kept for another.
        return jax.tree.map(placeholder, value)


def placeholder(x: PyTree) -> Any:
    """Return a traced array like ``x`` that does not hold ``x``, where that is easy."""
    # A tracer that is closed over keeps a trace that was given up alive for ever.
    if is_key_array(x):
        return x
    concrete = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    if concrete and len(x.devices()) == 1:
        # There is no sharding to keep, and looking for one takes most of the time.
        return jax.lax.broadcast(np.zeros((), x.dtype), x.shape)
    return jnp.zeros_like(x)


def discovering() -> Sealed | None:
    """Return the compiled function around this run if it only looks for Variables.

    None inside a transform of a framework, which keeps what it traced.
    """
    frame = None if inside_framework() else top()
    while frame is not None and not isinstance(frame, Sealed):
        frame = frame.parent
    return frame if frame is not None and frame.discovery_only else None


def _pretended(shapes: Any) -> Any:
    """Return arrays of these shapes, or None where that is not easy."""
    leaves, tree = jax.tree.flatten(shapes)
    for leaf in leaves:
        if is_key_array(leaf) or getattr(leaf, "sharding", None) is not None:
            return None
    return jax.tree.unflatten(tree, [jnp.zeros(s.shape, s.dtype) for s in leaves])


Result = tuple[Any, Sequence[Cell], Sequence[Any]]
"""(result of the function, Variables it wrote, their new values)."""


def run_to_fixed_point(
    discover: Callable[[], tuple[Effects, Any]],
    attempt: Callable[[Effects], tuple[Result, Effects]],
) -> Any:
    """Run ``attempt`` with the right set of written Variables; commit, return the out.

    A loop or a branch must know what is written before it is traced. The effects come
    from an earlier run of the surrounding function or from ``discover``, so the body
    runs a number of times that grows with the depth of nesting, not with 2^depth.

    Args:
        discover: runs the bodies abstractly; returns the effects, and the shapes of
            what will be returned, or None.
        attempt: runs them for real, threading what the effects say, and returns the
            result and the effects of that run.
    """
    with Outermost():
        return _to_fixed_point(discover, attempt)


def _to_fixed_point(discover: Callable, attempt: Callable) -> Any:
    # Exactly one entry for each call: see the page above.
    frame = top()
    effects = frame.cached_effects() if frame is not None else None
    if effects is None:
        with HeldPrints() as prints:
            effects, shapes = discover()
            scouting = discovering()
            no_shapes = frame is None or scouting is None or shapes is None
            out = None if no_shapes else _pretended(shapes)
            if out is None:
                prints.drop()  # `attempt` prints them too
        if out is not None and frame is not None and scouting is not None:
            values = [jax.tree.map(placeholder, read(v)) for v in effects.written]
            scouting.skipped_work = True
            frame.inner.append(effects)
            commit(effects.written, values)
            return unpack(out)
    while True:
        (out, written, values), seen = attempt(effects)
        # It may write less than was expected (a value that is a Python branch by now);
        # then it returns the values that those Variables had.
        if set(seen.written) <= set(effects.written) and (
            set(seen.known) <= set(effects.known)
        ):
            break
        effects = merge(effects, seen)
        effects.inner = seen.inner
    # With all that is threaded, not with what this run wrote: the next run shall begin
    # with the whole set.
    if frame is not None:
        frame.inner.append(Effects(effects.written, seen.inner, effects.known))
    commit(written, values)
    return unpack(out)


def lift(
    transform: Callable[[Callable], Callable],
    split: Callable[[Any], tuple[Any, Any]] = tuple,
) -> Callable[[Callable], Callable]:
    """Return a transform of JAX as one for functions that read and write Variables.

    For transforms whose function may return more than before: what the function wrote
    leaves the transform as a further result, and is committed around it.

    Args:
        transform: takes a pure function ``f(args, kwargs) -> (out, values)`` and
            returns one of the same arguments. A Node among these has no leaves: the
            function gets the Node itself.
        split: takes the result of that function, and returns ``(out, values)``: what
            to return, and the ``values`` as they left the transform. Left out, the
            transform returns the pair of ``f``.

    Returns:
        A function that takes the user's function and returns the transformed one.

    Example:
        >>> import brainopt as bo
        >>> count = bo.Variable(0.0)
        >>> def add(x):
        ...     count.value += x
        ...     return count * 10
        >>> float(bo.lift(jax.checkpoint)(add)(2.0)), float(count)
        (20.0, 2.0)
    """

    return functools.partial(_lifted, transform=transform, split=split)


@as_transform
def _lifted(fun: Callable, transform: Callable, split: Callable) -> Callable:
    def wrapper(*args, **kwargs):
        packed = held((args, kwargs))

        def attempt(effects: Effects):
            seen: list[Effects] = []

            def pure(args: Sequence[PyTree], kwargs: dict):
                run = Run(fun, args, (), effects, kwargs)
                # JAX may trace more than once; the results are of the last trace.
                seen[:] = [run.effects]
                return run.out, run.results(run.effects.written)

            out, values = split(transform(pure)(*packed))
            return (out, seen[0].written, values), Effects((), seen[0].inner)

        return run_to_fixed_point(lambda: (Effects(), None), attempt)

    return wrapper


def run_directly(function: Callable, args: Sequence[PyTree]) -> Any:
    """Run ``function`` as Python, for `jax.disable_jit`; write when it succeeded."""
    run = Run(function, args)
    commit(run.effects.written, run.results(run.effects.written))
    return unpack(run.out)
