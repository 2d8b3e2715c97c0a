# SPDX-License-Identifier: Apache-2.0
"""Inspection of a function without computing: eval_shape and make_jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._typing import P
from ..core import as_transform
from ..runtime import Outermost
from ._errors import Explained
from ._jit import jit
from ._lift import Run
from ._packed import held, unpack
from ._records import parted
from .programs._named import named_as


def eval_shape(fun: Callable, *args: Any, **kwargs: Any) -> Any:
    """Return the shapes and dtypes of what ``fun`` would return.

    Nothing is computed and no Variable changes.

    Args:
        fun: any function that reads and writes Variables.
        args: arrays, or anything with ``shape`` and ``dtype``.
        kwargs: the same by name.

    Example:
        >>> import brainopt as bo
        >>> w = bo.Variable((4, 3))
        >>> bo.eval_shape(lambda x: x @ w.value, jnp.ones((2, 4))).shape
        (2, 3)
    """

    def pure(args: tuple, kwargs: dict):
        return parted(Run(fun, args, kwargs=kwargs).out)[0]

    with Outermost(), Explained(fun, "bo.eval_shape"):
        return unpack(jax.eval_shape(named_as(fun, pure), *held((args, kwargs))))


@as_transform
def make_jaxpr(
    fun: Callable[P, object],
    static_argnums: int | Sequence[int] | None = None,
    return_shape: bool = False,
) -> Callable[P, Any]:
    """Return a function that returns the jaxpr of ``fun``.

    Its inputs are the values of the Variables that ``fun`` writes, of those that it
    only reads, and the arguments; its outputs the result and the written values.

    Args:
        fun: any function that reads and writes Variables.
        static_argnums: positions of arguments that are compiled in.
        return_shape: return the shapes and dtypes of the result as well.

    Example:
        >>> import brainopt as bo
        >>> v = bo.Variable(jnp.array(1.0))
        >>> jaxpr = bo.make_jaxpr(lambda x: v * x)(2.0)
        >>> len(jaxpr.in_avals), len(jaxpr.out_avals)
        (2, 1)
    """
    jitted = jit(fun, static_argnums=static_argnums)

    def wrapper(*args, **kwargs):
        jaxpr = jitted.trace(*args, **kwargs).jaxpr
        return (jaxpr, jitted.eval_shape(*args, **kwargs)) if return_shape else jaxpr

    return wrapper
