# SPDX-License-Identifier: Apache-2.0
"""Gradients of the sum of what a function returns: of each element by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from ..._typing import Argnums, Aux, Model, P, PyTree, R
from ...core import as_transform
from ._differentiate import Differentiated


@overload
def vector_grad(
    fun: Callable[P, R],
    grad_vars: Model = None,
    argnums: Argnums = None,
    return_value: Literal[False] = False,
    has_aux: Literal[False] | None = False,
    *,
    allow_unused: bool = False,
) -> Callable[P, Any]: ...


@overload
def vector_grad(
    fun: Callable[P, R],
    grad_vars: Model = None,
    argnums: Argnums = None,
    *,
    return_value: Literal[True],
    has_aux: Literal[False] | None = False,
    allow_unused: bool = False,
) -> Callable[P, tuple[Any, R]]: ...


@overload
def vector_grad(
    fun: Callable[P, tuple[R, Aux]],
    grad_vars: Model = None,
    argnums: Argnums = None,
    return_value: Literal[False] = False,
    *,
    has_aux: Literal[True],
    allow_unused: bool = False,
) -> Callable[P, tuple[Any, Aux]]: ...


@overload
def vector_grad(
    fun: Callable[P, tuple[R, Aux]],
    grad_vars: Model = None,
    argnums: Argnums = None,
    *,
    return_value: Literal[True],
    has_aux: Literal[True],
    allow_unused: bool = False,
) -> Callable[P, tuple[Any, R, Aux]]: ...


@overload
def vector_grad(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    return_value: bool = False,
    has_aux: bool | None = False,
    *,
    allow_unused: bool = False,
) -> Callable[P, Any]: ...


@overload
def vector_grad(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    return_value: bool = False,
    has_aux: bool | None = False,
    allow_unused: bool = False,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def vector_grad(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    return_value: bool = False,
    has_aux: bool | None = False,
    *,
    allow_unused: bool = False,
) -> Any:
    """Return a function that computes the gradient of the sum of an array's elements.

    For a function that works on each element by itself that is the derivative of each
    element. Arguments and results are those of `grad`; ``fun`` returns an array or a
    pytree of arrays.

    Example:
        >>> import brainopt as bo
        >>> bo.vector_grad(lambda x: x**2)(jnp.array([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    return Differentiated(
        _of_sum,
        fun,
        grad_vars,
        argnums,
        has_aux,
        return_value,
        plain=True,
        allow_unused=allow_unused,
    )


def _of_sum(pure: Callable) -> Callable:
    def derivatives(diff: PyTree) -> tuple[PyTree, PyTree]:
        # The gradient of the sum is the product of ones with the Jacobian.
        y, pull_back, aux = jax.vjp(pure, diff, has_aux=True)
        return pull_back(jax.tree.map(jnp.ones_like, y))[0], aux

    return derivatives
