# SPDX-License-Identifier: Apache-2.0
"""Gradients with respect to Variables, arguments, or both."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, overload

import jax

from ..._typing import Argnums, Aux, Model, P, R
from ...core import as_transform
from ._differentiate import Differentiated


@overload
def grad(
    fun: Callable[P, R],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: Literal[False] | None = False,
    return_value: Literal[False] = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, Any]: ...


@overload
def grad(
    fun: Callable[P, R],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: Literal[False] | None = False,
    *,
    return_value: Literal[True],
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[Any, R]]: ...


@overload
def grad(
    fun: Callable[P, tuple[R, Aux]],
    grad_vars: Model = None,
    argnums: Argnums = None,
    *,
    has_aux: Literal[True],
    return_value: Literal[False] = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[Any, Aux]]: ...


@overload
def grad(
    fun: Callable[P, tuple[R, Aux]],
    grad_vars: Model = None,
    argnums: Argnums = None,
    *,
    has_aux: Literal[True],
    return_value: Literal[True],
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[Any, R, Aux]]: ...


@overload
def grad(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, Any]: ...


@overload
def grad(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def grad(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Any:
    """Return a function that computes the gradient of a scalar function.

    ========== ========== ==========================================================
    grad_vars  argnums    result
    ========== ========== ==========================================================
    None       None, int  gradient of that argument (the first for None)
    None       sequence   tuple of the gradients of those arguments
    given      None       gradients in the structure of ``grad_vars``
    given      given      (gradients of the variables, gradients of the arguments)
    ========== ========== ==========================================================

    ``return_value`` appends the value, ``has_aux`` the auxiliary data, in this order.
    Variables that ``fun`` writes keep their new values. The gradient of a real loss by
    a complex input z = x + iy is ∂L/∂x - i ∂L/∂y, as `jax.grad` has it; ``opt.update``
    takes it as it is and goes downhill.

    Args:
        fun: returns a real scalar, or ``(scalar, aux)`` with ``has_aux``.
        grad_vars: a Variable, a list or dict of them, a collector, or a Node (its
            `TrainVar` Variables).
        argnums: positions of the arguments; negative ones count from the end. Where
            `grad` decorates a method, ``self`` has position 0, as in `jax.grad`.
        has_aux: whether ``fun`` returns auxiliary data too.
        return_value: whether to return the value of ``fun`` too.
        holomorphic: promise that ``fun`` is holomorphic: inputs and value are complex.
        allow_int: allow integer inputs (their gradients have dtype ``float0``).
        allow_unused: do not warn of Variables that ``fun`` does not read. Their
            gradients are zero, which is nearly always a mistake.
        mean_over: inside `shard_map`, the axes of the mesh that divide the batch: the
            value is its mean over them, and the gradients are those of this mean, equal
            on all devices. Nothing is to be averaged afterwards.

    Raises:
        GradientError: a Variable is not of a differentiable dtype; or ``mean_over``
            names an axis along which the value does not differ.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> g, value = bo.grad(lambda: (w**2).sum(), w, return_value=True)()
        >>> g.tolist(), float(value)
        ([2.0, 4.0], 5.0)

    Differs: for a complex input torch has the conjugate, ∂L/∂x + i ∂L/∂y.
    """
    transform = functools.partial(
        jax.grad, has_aux=True, holomorphic=holomorphic, allow_int=allow_int
    )
    dtypes = holomorphic, allow_int
    return Differentiated(
        transform,
        fun,
        grad_vars,
        argnums,
        has_aux,
        return_value,
        dtypes,
        plain=True,
        allow_unused=allow_unused,
        mean_over=(mean_over,) if isinstance(mean_over, str) else mean_over or (),
    )


@overload
def value_and_grad(
    fun: Callable[P, R],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: Literal[False] | None = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[R, Any]]: ...


@overload
def value_and_grad(
    fun: Callable[P, tuple[R, Aux]],
    grad_vars: Model = None,
    argnums: Argnums = None,
    *,
    has_aux: Literal[True],
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[tuple[R, Aux], Any]]: ...


@overload
def value_and_grad(
    fun: Callable[P, object],
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[P, tuple[Any, Any]]: ...


@overload
def value_and_grad(
    *,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


@as_transform
def value_and_grad(
    fun: Any = None,
    grad_vars: Model = None,
    argnums: Argnums = None,
    has_aux: bool | None = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
    allow_unused: bool = False,
    mean_over: str | tuple[str, ...] | None = None,
) -> Any:
    """Return a function that computes ``(value, gradients)``, or with ``has_aux``
    ``((value, aux), gradients)``, as `jax.value_and_grad` does.

    Arguments and the structure of the gradients are those of `grad`.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar(jnp.array(3.0))
        >>> value, g = bo.value_and_grad(lambda x: x * w**2, w)(2.0)
        >>> float(value), float(g)
        (18.0, 12.0)
    """
    gradient = grad(
        fun,
        grad_vars,
        argnums,
        has_aux,
        True,
        holomorphic=holomorphic,
        allow_int=allow_int,
        allow_unused=allow_unused,
        mean_over=mean_over,
    )

    def wrapper(*args, **kwargs):
        grads, value, *aux = gradient(*args, **kwargs)
        return ((value, *aux), grads) if aux else (value, grads)

    return wrapper
