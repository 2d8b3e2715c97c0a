# SPDX-License-Identifier: Apache-2.0
"""Jacobians and Hessians with respect to Variables, arguments, or both."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

import jax

from ..._typing import Argnums, Model, P
from ...core import as_transform
from ._differentiate import Differentiated


@overload
def jacrev(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
) -> Callable[P, Any]: ...


@overload
def jacrev(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def jacrev(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
) -> Any:
    """Return a function that computes the Jacobian, row by row, in reverse mode.

    Args:
        fun: returns an array, or any pytree of arrays.
        grad_vars: as in `grad`.
        argnums: as in `grad`.
        has_aux: as in `grad`.
        return_value: as in `grad`.
        holomorphic: as in `grad`.
        allow_int: as in `grad`.
        allow_unused: as in `grad`.

    Returns:
        A function that returns, for each array that ``fun`` returns, the structure of
        `grad`'s table with arrays of shape ``(*output, *input)``.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> bo.jacrev(lambda: w**2, w)().tolist()
        [[2.0, 0.0], [0.0, 4.0]]
    """
    transform = functools.partial(
        jax.jacrev, has_aux=True, holomorphic=holomorphic, allow_int=allow_int
    )
    return Differentiated(
        transform,
        fun,
        grad_vars=grad_vars,
        argnums=argnums,
        has_aux=has_aux,
        return_value=return_value,
        dtypes=(holomorphic, allow_int),
        levels=1,
        allow_unused=allow_unused,
    )


jacobian = jacrev


@overload
def jacfwd(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Callable[P, Any]: ...


@overload
def jacfwd(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def jacfwd(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Any:
    """Return a function that computes the Jacobian, column by column, in forward mode.

    Arguments and results are those of `jacrev`. Better than `jacrev` where there are
    fewer inputs than outputs.

    Example:
        >>> import brainopt as bo
        >>> gain = bo.TrainVar(jnp.array(3.0))
        >>> bo.jacfwd(lambda x: gain * x, gain)(jnp.array([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    return Differentiated(
        functools.partial(jax.jacfwd, has_aux=True, holomorphic=holomorphic),
        fun,
        grad_vars=grad_vars,
        argnums=argnums,
        has_aux=has_aux,
        return_value=return_value,
        dtypes=(holomorphic, False, True),
        levels=1,
        allow_unused=allow_unused,
    )


@overload
def hessian(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Callable[P, Any]: ...


@overload
def hessian(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def hessian(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_unused: bool = False,
) -> Any:
    """Return a function that computes the second derivatives.

    Args:
        fun: returns a scalar, an array, or any pytree of arrays.
        grad_vars: as in `grad`.
        argnums: as in `grad`.
        has_aux: as in `grad`.
        return_value: as in `grad`.
        holomorphic: as in `grad`.
        allow_unused: as in `grad`.

    Returns:
        A function that returns the structure of `grad`'s table twice: for two
        Variables in a dict, ``h["a"]["b"]`` has shape ``(*output, *a, *b)``.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> bo.hessian(lambda: (w**3).sum(), w)().tolist()
        [[6.0, 0.0], [0.0, 12.0]]
    """

    # Forward over reverse: a second reverse pass would have to store what the first one
    # computes.
    def transform(pure: Callable) -> Callable:
        rows = jax.jacrev(pure, has_aux=True, holomorphic=holomorphic)
        return jax.jacfwd(rows, has_aux=True, holomorphic=holomorphic)

    return Differentiated(
        transform,
        fun,
        grad_vars=grad_vars,
        argnums=argnums,
        has_aux=has_aux,
        return_value=return_value,
        dtypes=(holomorphic, False, True),
        levels=2,
        allow_unused=allow_unused,
    )
