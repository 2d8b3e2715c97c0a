# SPDX-License-Identifier: Apache-2.0
"""Errors inside transformed functions: where they arose, and the likely mend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax

from .._compat import hide_library_frames
from ..core import (
    Node,
    collect_vars,
    describe,
    find,
    registered,
    wake_entry_points,
    within,
)
from ..errors import BrainoptError, StateLostError, TraceContextError, message
from ..runtime import RULE_HELP, Cell, read_in_rules
from .programs._program import Program
from .programs._questions import is_gone

_SHAPES = (
    "print the shapes in the function: they are known while it is traced. The body of "
    "a loop, or of `vmap`, has one slice of what was given."
)
# The first that fits is taken, so the special come before the general:
# TracerBoolConversionError is a ConcretizationTypeError too.
_HELP: tuple[tuple[type[Exception], str, str], ...] = (
    (
        jax.errors.TracerBoolConversionError,
        "",
        "choose by `bo.cond` or `jnp.where`; an argument that is a plain switch is "
        "named in `static_argnames`.",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "",
        "index with jnp arrays; an argument that is a plain number is named in "
        "`static_argnames`.",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "",
        "use `jnp` in the place of `np` inside compiled functions.",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "",
        "a traced value is no Python number: use `jnp`, or return the value and "
        "convert it outside.",
    ),
    (
        jax.errors.UnexpectedTracerError,
        "",
        "an array of a traced function was kept outside of it; keep it in a "
        "`bo.Variable`, or return it.",
    ),
    (
        TypeError,
        "returned a value of type",
        "return arrays, Variables, Nodes, or trees of these; a model of another "
        "framework stays outside, and its states are arrays.",
    ),
    (
        TypeError,
        "Quantity'>' is not a valid JAX type",
        "a loss has no unit: return the number that it has in one, as "
        "`loss.to_decimal(u.mV**2)`.",
    ),
    (
        TypeError,
        "not a valid JAX type",
        "name arguments that are no arrays in `static_argnames`.",
    ),
    (
        TypeError,
        "Gradient only defined for scalar-output functions. Output was (",
        "a loss that returns more than one number says so: `has_aux=True`.",
    ),
    (
        TypeError,
        "carry input and carry output must have the same pytree structure",
        "return what was given, in the same structure; a Variable is a tree of its own "
        "kind, so begin with `variable.value`.",
    ),
    (
        TypeError,
        "Gradient only defined for scalar-output functions",
        "reduce the loss to one number, as by `.mean()`.",
    ),
    (
        TypeError,
        "grad requires real-valued outputs",
        "return a real float; of a complex value `.real` or `abs(z) ** 2`. Counts and "
        "comparisons have no gradient.",
    ),
    (
        ValueError,
        "Reverse-mode differentiation does not work for lax.while_loop",
        "use `bo.bounded_while_loop`, or `bo.for_loop` if the iterations are counted.",
    ),
    (
        IndexError,
        "only integers, slices",
        "index by integers or booleans; by those of a Variable as `x[i.value]`.",
    ),
    (TypeError, "dot_general requires", _SHAPES),
    (TypeError, "got incompatible shapes", _SHAPES),
    (ValueError, "Incompatible shapes for broadcasting", _SHAPES),
)


def explain(error: Exception, function: Callable, transform: str = "bo.jit") -> None:
    """Note in an error where it arose, and hide frames of the library.

    Args:
        error: raised while ``function`` was traced or run.
        function: what the user compiles.
        transform: by what.
    """
    place = f"in {transform} of {describe(function)}"
    notes = getattr(error, "__notes__", [])
    if not isinstance(error, BrainoptError) and place not in notes:
        error.add_note(place)
        # The innermost function comes here first, and the help is about that one.
        if not any(note.startswith("help: ") for note in notes):
            _add_help(error)
    hide_library_frames(error)


def of_rule(error: Exception) -> Exception:
    """Return the error of Variables in a rule, where it was one; others as they are."""
    labels = read_in_rules()
    is_of_rule = type(error).__name__ == "CustomVJPException" or (
        isinstance(error, TypeError) and str(error).startswith("No constant handler")
    )
    if labels and is_of_rule:
        fact = (
            "JAX cannot differentiate functions of jax.custom_jvp or jax.custom_vjp, "
            "or rules of theirs, that read these Variables here:"
        )
        return TraceContextError(message(fact, labels, RULE_HELP))
    return error


class Explained:
    """A block whose errors say where they arose.

    Args:
        function: what the user has transformed.
        transform: by what.
    """

    # No function with `contextlib.contextmanager`, which puts back the frames of the
    # library that `explain` has hidden.
    __slots__ = ("_function", "_transform")

    def __init__(self, function: Callable, transform: str):
        self._function = function
        self._transform = transform

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if not isinstance(error, Exception):
            return
        known = of_rule(error)
        explain(known, self._function, self._transform)
        if known is not error:
            raise known from error


def _add_help(error: Exception) -> None:
    for kind, words, help in _HELP:
        if isinstance(error, kind) and words in str(error):
            error.add_note(f"help: {help}")
            return


def raise_lost(error: BaseException, program: Program) -> NoReturn:
    """Raise the error of a step, or `StateLostError` where it took values with it.

    Args:
        error: what was raised while the step ran.
        program: that of the step.
    """
    lost = [v for v in program.written if is_gone(v._committed())]
    if not lost:
        raise error
    paths = _paths(program.function)
    raise StateLostError(
        message(
            f"The step {describe(program.function)} failed while it ran; of the "
            f"{len(program.written)} Variables that it overwrites the values of "
            f"{len(lost)} are gone:",
            [paths.get(variable, variable.label) for variable in lost],
            "load the last checkpoint. `bo.jit(safe=True)` keeps the old values until "
            "a step has succeeded.",
        )
    ) from error


def _paths(function: Callable) -> dict[Cell, str]:
    """Return the path of each Variable from a name that the function knows."""
    found: dict[Cell, str] = {}
    for name, value in within(function):
        if isinstance(value, Node):
            for path, variable in collect_vars(value).items():
                found.setdefault(variable, f"{name}.{path}")
    return found


def refusal(function: Callable, args: tuple, kwargs: dict) -> str:
    """Return why ``bo.jit`` cannot compile this call, or nothing."""
    wake_entry_points()
    for host in registered():
        if reason := host.refuse(function, args, kwargs):
            return reason
    return ""


def models_among(args: tuple, kwargs: dict) -> str:
    """Return why JAX cannot take the models among these arguments, or nothing."""
    leaves = jax.tree.leaves((args, kwargs))
    kinds = {type(leaf).__name__ for leaf in leaves if find(leaf) is not None}
    if not kinds:
        return ""
    return message(
        "bo.jit takes no model of another framework as an argument:",
        sorted(kinds),
        "let the function close over it, as `bo.jit(lambda x: model(x))`, or name its "
        "place: `static_argnums=0`; its state is read and written all the same.",
    )
