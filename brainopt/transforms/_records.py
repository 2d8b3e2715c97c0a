# SPDX-License-Identifier: Apache-2.0
"""Records: named values inside a function, on their way out of its transforms.

**How it works.** A frame collects what `record` names, where somebody around asks for
it (`collected`). When the run of the frame ends, the values leave its transform
together with the result of the function, as a `Recorded`: a loop stacks both, `vmap`
adds the axis of the lanes to both, a branch chooses both. The transform then unpacks
the result, which hands the values to the frame around.

**What must never happen.** A value that is kept anywhere else than in the result of the
run in which it was computed: it is a tracer that ends with that run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .._compat import current_trace
from .._typing import PyTree
from ..errors import TraceContextError, message
from ..runtime import Frame, top


@jax.tree_util.register_pytree_node_class
class Recorded:
    """The result of a function, and what it recorded, by name."""

    __slots__ = ("out", "records")

    def __init__(self, out: PyTree, records: Mapping[str, PyTree]):
        self.out = out
        self.records = dict(records)

    def tree_flatten(self):
        return (self.out, self.records), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple):
        new = cls.__new__(cls)
        new.out, new.records = children
        return new


def record(**values: PyTree) -> None:
    """Record values by name, for a `with_records` around; without one do nothing.

    It stands anywhere inside: in layers, loops, gradients. What comes back has one
    leading axis for each `for_loop`, `scan` or `vmap` between the two, the outermost
    first. Each branch of a `cond` has to record the same names. A `while_loop` or
    `bounded_while_loop`, whose length is not known, and a `shard_map` cannot record.

    Args:
        values: arrays, Variables or trees of these; each name once in a run.

    Raises:
        TraceContextError: a plain JAX transform, which brainopt does not thread,
            stands between here and `with_records`.
        ValueError: a name is recorded twice in one run.

    Example:
        >>> import brainopt as bo
        >>> import jax.numpy as jnp
        >>> v = bo.Variable(jnp.array(0.0))
        >>> def step(x):
        ...     v.value = 0.5 * v + x
        ...     bo.record(spike=v > 1)
        >>> _, kept = bo.with_records(bo.for_loop)(step, jnp.ones(3))
        >>> kept["spike"].tolist()
        [False, True, True]
    """
    frame = top()
    if frame is None:
        return
    # What JAX traces of this code from here on depends on whether anybody records.
    frame.note_read()
    if frame.records is None:
        return
    if current_trace() != frame.trace:
        raise TraceContextError(
            message(
                "These values are recorded inside a JAX trace that brainopt does not "
                "thread (a plain jax.jit, jax.grad, jax.vmap or jax.lax loop):",
                values,
                "use the transform of the same name from brainopt (`bo.jit`, "
                "`bo.grad`, `bo.for_loop`, …), or return the values.",
            )
        )
    _keep(frame, values)


def _keep(frame: Frame, values: Mapping[str, PyTree]) -> None:
    if frame.records is None:
        return
    if twice := [name for name in values if name in frame.records]:
        raise ValueError(
            message(
                "These names are recorded twice in one run:",
                twice,
                "give each its own name, such as `bo.record(**{f'{layer}.v': v})`; in "
                "the place of a Python loop use `bo.for_loop`.",
            )
        )
    frame.records |= values


def recording() -> bool:
    """Whether what is recorded now is asked for."""
    frame = top()
    return frame is not None and frame.records is not None


def keyed(key: Any) -> Any:
    """Return the key of code, another one where its result has what is recorded."""
    return (recording, key) if recording() else key


def collected(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function; return its result, as a `Recorded` if it recorded anything."""
    frame = top()
    assert frame is not None
    before, frame.records = frame.records, {}
    try:
        return rejoined(function(*args, **kwargs), frame.records)
    finally:
        frame.records = before


def passed_on(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function as `collected` does, where the frame around asks for it."""
    frame = top()
    around = frame and frame.parent
    if around is None or around.records is None:
        return function(*args, **kwargs)
    return collected(function, *args, **kwargs)


def handed_over(recorded: Recorded) -> Any:
    """Give what was recorded to the frame that runs now; return the result."""
    if (frame := top()) is not None:
        _keep(frame, recorded.records)
    return recorded.out


def parted(out: PyTree) -> tuple[Any, dict[str, Any]]:
    """Return the result of a run, and what it recorded."""
    return (out.out, out.records) if isinstance(out, Recorded) else (out, {})


def rejoined(out: PyTree, records: Mapping[str, PyTree]) -> Any:
    """Return both as one tree, as `parted` takes it."""
    return Recorded(out, records) if records else out


def refuse_records(out: PyTree, where: str, help: str) -> Any:
    """Return the result of a run; raise TraceContextError if it recorded anything."""
    out, records = parted(out)
    if records:
        raise TraceContextError(
            message(f"{where} cannot record these values:", records, help)
        )
    return out


def check_branches(outs: Sequence[PyTree]) -> None:
    """Raise TraceContextError unless all branches record the same names."""
    names = [parted(out)[1].keys() for out in outs]
    every = set().union(*names)
    if any(found != every for found in names):
        lines = [
            f"branch {i}: {', '.join(sorted(found)) or 'nothing'}"
            for i, found in enumerate(names)
        ]
        raise TraceContextError(
            message(
                "The branches record different names (of a cond, 0 is true_fun):",
                lines,
                "record the same names in every branch, as zeros where there is "
                "nothing to see, or record after the branch.",
            )
        )
