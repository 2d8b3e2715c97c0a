# SPDX-License-Identifier: Apache-2.0
"""Large arrays that a function closes over, as inputs of its program.

**How it works.** An array in a plain attribute, a closure or a global becomes a
constant of the trace. XLA then copies it into the code and works with it as a literal,
which makes steps two to five times slower where connectivity is kept this way, and the
code as large as the array. So the first trace of a program is searched for large
constants. They become further inputs: the function is traced to a jaxpr inside the
trace of the program, and the jaxpr is evaluated with inputs in the place of those
constants. The values are the same, so nothing else can change.

**What must never happen.** Another value than that of the trace: constants are matched
by identity, or where JAX made a new array of a NumPy one, by all of their bytes. A
constant among the donated inputs. A constant on other devices than the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ..._compat import is_key_array
from ._retrace import giving_up

LARGE = 2**16
"""Bytes from which on numbers become an input; see docs/decisions/0011."""

LARGE_INDEX = 2**22
"""The same for integers and bools: XLA works out at compile time what is done to small
ones, such as slices of an array of connections, and the step is faster by that."""

_MAX_ROUNDS = 2  # a function may make another constant at each trace


class Constants:
    """The large constants that a program takes as inputs.

    Args:
        found: constants of a trace.
        state: the values among which they are to stand.
        earlier: those of the program before.
    """

    __slots__ = ("_originals", "_rounds", "inputs")

    def __init__(
        self,
        found: Sequence[Any] = (),
        state: Any = (),
        earlier: Constants | None = None,
    ):
        self._originals: tuple[Any, ...] = ()
        self.inputs: tuple[jax.Array, ...] = ()
        self._rounds = 0
        if earlier is not None:
            self._originals, self.inputs = earlier._originals, earlier.inputs
            self._rounds = earlier._rounds + bool(found)
        if found:
            device = _device_of(state)
            self._originals += tuple(found)
            # Outside of the trace that asks: what it made would end with it.
            with jax.ensure_compile_time_eval():
                self.inputs += tuple(jax.device_put(x, device) for x in found)

    def missing(self, traced: Any, state: Any) -> list[Any]:
        """Return the large constants that a trace still has."""
        if self._rounds >= _MAX_ROUNDS:
            return []
        found = [x for x in traced.jaxpr.consts if _is_large(x)]
        return found if found and _on_one_device(state) else []

    def as_inputs(self, function: Callable, given: Sequence[Any], args: tuple) -> Any:
        """Return ``function(*args)`` with ``given`` in the place of the constants."""
        closed, shapes = jax.make_jaxpr(giving_up(function), return_shape=True)(*args)
        consts = [self._input_for(x, given) for x in closed.consts]
        out = jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    def _input_for(self, constant: Any, given: Sequence[Any]) -> Any:
        if not _is_large(constant):
            return constant
        pairs = list(zip(self._originals, given, strict=True))
        for original, value in pairs:
            if original is constant:
                return value
        for original, value in pairs:
            if _is_equal(original, constant):
                return value
        return constant


def _is_large(constant: Any) -> bool:
    if isinstance(constant, jax.core.Tracer) or is_key_array(constant):
        return False
    if isinstance(constant, jax.Array):
        # What was put somewhere on purpose stays the constant that it was.
        return constant.nbytes >= _limit(constant) and not constant.committed
    return isinstance(constant, np.ndarray) and constant.nbytes >= _limit(constant)


def _limit(constant: Any) -> int:
    return LARGE if jnp.issubdtype(constant.dtype, jnp.inexact) else LARGE_INDEX


def _is_equal(one: Any, other: Any) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _committed(state: Any) -> set[Any]:
    arrays = (x for x in jax.tree.leaves(state) if isinstance(x, jax.Array))
    arrays = (x for x in arrays if not isinstance(x, jax.core.Tracer))
    return {device for x in arrays if x.committed for device in x.devices()}


def _on_one_device(state: Any) -> bool:
    return len(_committed(state)) <= 1


def _device_of(state: Any) -> Any:
    """Return the device that the state was put on, or None."""
    return next(iter(_committed(state)), None)
