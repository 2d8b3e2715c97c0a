# SPDX-License-Identifier: Apache-2.0
"""Products with the Jacobian: vjp and jvp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import jax

from ..._typing import Aux, Model, PyTree, R
from .._packed import pack, unpack
from ._differentiate import Differentiated
from ._targets import Targets


@overload
def vjp(
    fun: Callable[..., R],
    *primals: PyTree,
    grad_vars: Model = None,
    has_aux: Literal[False] = False,
    allow_unused: bool = False,
) -> tuple[R, Callable[[PyTree], Any]]: ...


@overload
def vjp(
    fun: Callable[..., tuple[R, Aux]],
    *primals: PyTree,
    grad_vars: Model = None,
    has_aux: Literal[True],
    allow_unused: bool = False,
) -> tuple[R, Callable[[PyTree], Any], Aux]: ...


def vjp(
    fun: Callable,
    *primals: PyTree,
    grad_vars: Model = None,
    has_aux: bool = False,
    allow_unused: bool = False,
) -> Any:
    """Run ``fun`` and return its value and a function that pulls cotangents back.

    Args:
        fun: a function of ``primals``.
        primals: the arguments, all differentiated by.
        grad_vars: Variables to differentiate by, as in `grad`.
        has_aux: whether ``fun`` returns ``(value, aux)``.
        allow_unused: as in `grad`.

    Returns:
        ``(value, pull_back)``, or ``(value, pull_back, aux)``. ``pull_back(cotangent)``
        returns a tuple with one gradient for each primal; with ``grad_vars`` their
        gradients, or, where there are primals too, the pair of both.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> y, pull_back = bo.vjp(lambda x: w * x, 3.0, grad_vars=w)
        >>> by_w, (by_x,) = pull_back(jnp.ones(2))
        >>> by_w.tolist(), float(by_x)
        ([3.0, 3.0], 3.0)
    """

    def transform(pure: Callable):
        def linear(diff: PyTree):
            # A function in the place of derivatives: nothing of JAX is between here
            # and `derive`, so it need not be an array.
            _, pull_back, aux = jax.vjp(pure, diff, has_aux=True)
            return pull_back, aux

        return linear

    argnums = tuple(range(len(primals))) if primals or grad_vars is None else None
    function = Differentiated(
        transform, fun, grad_vars, argnums, has_aux, False, allow_unused=allow_unused
    )
    outcome = function.derive(primals, {})

    def pull_back(cotangent: PyTree):
        (derivatives,) = outcome.derivatives(pack(cotangent))
        return function.arranged(outcome, derivatives)

    aux = (unpack(outcome.aux),) if has_aux else ()
    return unpack(outcome.y), pull_back, *aux


@overload
def jvp(
    fun: Callable[..., R],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    grad_vars: Model = None,
    var_tangents: PyTree = None,
    has_aux: Literal[False] = False,
) -> tuple[R, R]: ...


@overload
def jvp(
    fun: Callable[..., tuple[R, Aux]],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    grad_vars: Model = None,
    var_tangents: PyTree = None,
    has_aux: Literal[True],
) -> tuple[R, R, Aux]: ...


def jvp(
    fun: Callable,
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    grad_vars: Model = None,
    var_tangents: PyTree = None,
    has_aux: bool = False,
) -> Any:
    """Run ``fun`` and push tangents forward through it.

    Args:
        fun: a function of ``primals``.
        primals: the arguments.
        tangents: one for each primal, of its structure.
        grad_vars: Variables that have tangents too, as in `grad`.
        var_tangents: their tangents, in the structure of ``grad_vars``.
        has_aux: whether ``fun`` returns ``(value, aux)``.

    Returns:
        ``(value, tangent of the value)``, with ``has_aux`` the aux third.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> y, dy = bo.jvp(lambda: w**2, (), (), grad_vars=w, var_tangents=jnp.ones(2))
        >>> dy.tolist()
        [2.0, 4.0]
    """
    if len(primals) != len(tangents):
        raise ValueError(f"{len(tangents)} tangents for {len(primals)} primals.")
    var_tangents = [] if grad_vars is None else _by_unique(grad_vars, var_tangents)
    pushed = var_tangents, tuple(pack(t) for t in tangents)

    def transform(pure: Callable):
        def linear(diff: PyTree):
            _, tangent, aux = jax.jvp(pure, (diff,), (pushed,), has_aux=True)
            return tangent, aux

        return linear

    argnums = tuple(range(len(primals)))
    function = Differentiated(transform, fun, grad_vars, argnums, has_aux, False)
    outcome = function.derive(tuple(primals), {})
    aux = (unpack(outcome.aux),) if has_aux else ()
    return unpack(outcome.y), unpack(outcome.derivatives), *aux


def _by_unique(grad_vars: Any, tangents: Any) -> list[Any]:
    return list(map(pack, Targets(grad_vars).parts(tangents)))
