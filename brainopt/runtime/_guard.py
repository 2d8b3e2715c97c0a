# SPDX-License-Identifier: Apache-2.0
"""The guard: which reads and writes of Variables are legal inside JAX traces.

**How it works.** JAX gives each trace a token (`brainopt._compat.current_trace`). A
write is legal in two places:

1. in the trace in which the Variable was created: both end together;
2. in the trace of the innermost frame: its transform carries the value out.

Any other trace is one that nobody threads (a plain ``jax.jit``, ``jax.grad``,
``jax.vmap`` or ``jax.lax`` loop inside the frame, or none around it at all). A value
written there would be a tracer of a trace that ends before the frame does. The error
comes at the write, where the user can see why, and not later in a place that JAX names.

If another framework's transform is nearer than every frame, that framework threads its
own states, and its tracker says whether the value belongs to what it traces now.

Reads need no such rule: JAX closes over values of outer traces. One case is left: a
Variable created in a plain JAX trace holds a tracer after that trace has ended. Back at
the level of the innermost frame the read is refused (`check_creation`).

**What must never happen.** A silent write into a trace that nobody threads: moments
kept that way gave losses that were wrong in the third digit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import jax
import jax.core

from .._compat import CUSTOM_RULES, EAGER, current_trace, is_differentiated
from .._typing import PyTree
from ..errors import TraceContextError, message
from . import _trackers
from ._cell import Cell
from ._frame import Frame, local


def check_creation(variable: Cell, value: PyTree) -> None:
    """Raise TraceContextError if ``value`` belongs to a trace that has ended."""
    # Back at the level of the innermost frame, a trace that is no frame's own (a plain
    # jax.jit, jax.vmap, …) has ended, and so have the tracers made in it.
    frame = local.top
    now = current_trace()
    if now != (EAGER if frame is None else frame.trace):
        return
    while frame is not None:
        if frame.trace == variable._creation_trace or frame.has(variable):
            return
        frame = frame.parent
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise TraceContextError(
            message(
                f"{variable.label} was created inside a transformed function and is "
                f"used after that function ended, or by a transform inside it.",
                help="create Variables before the transform, or return the value; "
                "for an outer transform of jax take that of brainopt, as bo.vmap.",
            )
        )


def check_rule(variable: Cell, value: PyTree) -> None:
    """Raise TraceContextError for a differentiated value in a rule of JAX.

    JAX runs the rules of `jax.custom_jvp` and `jax.custom_vjp`, and the functions that
    have them, outside of the trace that differentiates. Other traced values fail
    there only now and then, so they are noted for the error that JAX may raise.
    """
    traced = [x for x in jax.tree.leaves(value) if isinstance(x, jax.core.Tracer)]
    if not traced or not _is_in_rule(variable):
        return
    if any(map(is_differentiated, traced)):
        raise TraceContextError(
            message(
                f"{variable.label} is read in a function of jax.custom_jvp or "
                "jax.custom_vjp, or in its rule, and differentiated outside of it.",
                help=RULE_HELP,
            )
        )
    local.read_in_rules[variable.label] = None


RULE_HELP = (
    "pass the value as an argument, as `spike(x, net.slope.value)`: then the rule "
    "gives its derivative too, or zero."
)


def read_in_rules() -> list[str]:
    """Return the labels of traced Variables that rules of JAX have read."""
    return list(local.read_in_rules)


def _is_in_rule(variable: Cell) -> bool:
    """Whether a rule of JAX runs inside the frame that has the Variable's value."""
    frame = local.top
    while frame is not None and not frame.has(variable):
        frame = frame.parent
    code = sys._getframe(3)  # past `read`, which has a frame too
    while code is not None:
        name = code.f_code.co_filename
        if name.endswith(CUSTOM_RULES):
            return True
        if name.startswith(_LIBRARY) and code.f_locals.get("frame") is frame:
            return False
        code = code.f_back
    return False


_LIBRARY = os.path.dirname(os.path.dirname(__file__)) + os.sep


def check_writable(variables: Sequence[Cell], read: Callable[[Cell], PyTree]) -> None:
    """Raise TraceContextError unless the trace that runs now threads all of these.

    Args:
        variables: what is to be written.
        read: returns the value of a Variable as this thread sees it.
    """
    _trackers.activate()
    frame = local.top
    now = current_trace()
    home = EAGER if frame is None else frame.trace
    # Nearer than every frame: the framework threads its states itself, and may trace
    # at another level than the frame, so the comparison with `home` does not apply.
    framework = _trackers.innermost()
    if framework is None and now == home:
        return
    for variable in variables:
        if now == variable._creation_trace:
            continue
        if framework is not None:
            fits = framework.admits(read(variable))
        else:
            fits = now == home
        if not fits:
            raise TraceContextError(_foreign_write(variable, frame))


def _foreign_write(variable: Cell, frame: Frame | None) -> str:
    inside = "no brainopt transform" if frame is None else "a brainopt transform"
    usual = (
        "use the transform of the same name from brainopt (`bo.jit`, `bo.grad`, "
        "`bo.for_loop`, …), or pass the value in and return it."
    )
    return message(
        f"{variable.label} is written inside a JAX trace that brainopt does not "
        f"thread (a plain jax.jit, jax.grad, jax.vmap or jax.lax loop, inside "
        f"{inside}); the new value could not leave that trace.",
        help=variable._advice or usual,
    )
