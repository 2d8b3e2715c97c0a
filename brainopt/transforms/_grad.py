# SPDX-License-Identifier: Apache-2.0
"""Derivatives with respect to Variables, arguments, or both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..core import Variable
from ..core._trace import Lesson
from ..core._walk import train_vars_of
from ..errors import GradientError, message
from ._lift import Run, commit, plain, read, settle


class Targets:
    """The Variables to differentiate by, and the structure the result gets.

    Args:
        source: a Variable, a list or tuple or dict of them, a collector, or a Node
            (its `TrainVar`s). A Variable that stands twice gets its gradient twice.
    """

    def __init__(self, source: Any):
        if isinstance(source, Variable):
            self.tree, self.variables = jax.tree.structure(0), [source]
        elif isinstance(source, list | tuple) and all(
            isinstance(item, Variable) for item in source
        ):
            self.tree = jax.tree.structure([0] * len(source))
            self.variables = list(source)
        else:
            found = train_vars_of(source)
            keys = sorted(found)
            self.tree = jax.tree.structure(dict.fromkeys(keys, 0))
            self.variables = [found[key] for key in keys]
        self.unique = list(dict.fromkeys(self.variables))

    def arrange(self, gradients: Sequence[Any]) -> Any:
        """Return the gradients of the unique Variables in the source's structure."""
        by_variable = dict(zip(self.unique, gradients, strict=True))
        return jax.tree.unflatten(self.tree, [by_variable[v] for v in self.variables])

    def check(self, holomorphic: bool, allow_int: bool) -> None:
        """Raise `GradientError` naming every Variable of an unfit dtype."""
        wanted = jnp.complexfloating if holomorphic else jnp.floating
        unfit = [
            f"{variable.label}: {leaf.dtype}"
            for variable in self.unique
            for leaf in jax.tree.leaves(read(variable))
            if not jnp.issubdtype(leaf.dtype, wanted)
            and not (allow_int and jnp.issubdtype(leaf.dtype, jnp.integer))
        ]
        if unfit:
            kind = "complex" if holomorphic else "real floating"
            raise GradientError(
                message(
                    f"These Variables have no {kind} dtype to differentiate by:",
                    unfit,
                    "leave them out of `grad_vars`; complex ones need "
                    "`holomorphic=True`, integer ones `allow_int=True`.",
                )
            )


class Differentiated:
    """A function that returns derivatives; what `grad` and its kin return.

    Args:
        transform: takes ``f(diff) -> (y, aux)`` and returns
            ``g(diff) -> (derivatives, aux)``.
    """

    def __init__(
        self,
        transform: Callable[[Callable], Callable],
        fun: Callable,
        grad_vars: Any,
        argnums: int | Sequence[int] | None,
        has_aux: bool,
        return_value: bool,
        holomorphic: bool = False,
        allow_int: bool = False,
    ):
        if not callable(fun):
            raise TypeError(f"grad takes a function, not a {type(fun).__name__}.")
        self._transform = transform
        self._fun = fun
        self._grad_vars = grad_vars
        self._argnums = 0 if argnums is None and grad_vars is None else argnums
        self._has_aux = bool(has_aux)
        self._return_value = return_value
        self._dtypes = holomorphic, allow_int
        functools.update_wrapper(self, fun, updated=())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args, **kwargs):
        targets = None if self._grad_vars is None else Targets(self._grad_vars)
        if targets is not None:
            targets.check(*self._dtypes)
        variables = [] if targets is None else targets.unique
        places = self._places(len(args))
        args = tuple(plain(arg) for arg in args)
        diff = [read(v) for v in variables], tuple(args[i] for i in places)

        def attempt(lesson: Lesson):
            seen: list[Lesson] = []

            def pure(diff):
                values, chosen = diff
                filled = list(args)
                for i, arg in zip(places, chosen, strict=True):
                    filled[i] = arg
                bindings = zip(variables, values, strict=True)
                run = Run(self._fun, filled, bindings, lesson, kwargs)
                seen[:] = [run.lesson]
                y, aux = self._split(run.out)
                return y, (y, aux, run.results(run.lesson.written))

            derivatives, rest = self._transform(pure)(diff)
            # The written Variables leave through `aux`: their set need not be known
            # beforehand, so one run is always enough.
            return (derivatives, rest, seen[0].written), Lesson((), seen[0].inner)

        result = settle(lambda: Lesson(), attempt)
        (var_grads, arg_grads), (y, aux, values), written = result
        commit(written, values)
        return self._pack(targets, var_grads, arg_grads, y, aux)

    def _places(self, count: int) -> tuple[int, ...]:
        if self._argnums is None:
            return ()
        nums = self._argnums
        nums = (nums,) if isinstance(nums, int) else tuple(nums)
        for n in nums:
            if not -count <= n < count:
                raise ValueError(
                    message(
                        f"argnums={self._argnums} for a call with {count} arguments."
                    )
                )
        return tuple(n % count for n in nums)

    def _split(self, out: Any) -> tuple[Any, Any]:
        if not self._has_aux:
            return out, None
        if not isinstance(out, tuple) or len(out) < 2:
            raise TypeError(
                message(
                    "has_aux=True, but the function did not return a tuple "
                    "(value, aux).",
                )
            )
        return out[0], out[1] if len(out) == 2 else out[1:]

    def _pack(self, targets, var_grads, arg_grads, y, aux) -> Any:
        single = isinstance(self._argnums, int)
        by_args = arg_grads[0] if single else tuple(arg_grads)
        if targets is None:
            grads = by_args
        elif self._argnums is None:
            grads = targets.arrange(var_grads)
        else:
            grads = targets.arrange(var_grads), by_args
        extras = ((y,) if self._return_value else ()) + (
            (aux,) if self._has_aux else ()
        )
        return (grads, *extras) if extras else grads


def grad(
    fun: Callable | None = None,
    grad_vars: Any = None,
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    return_value: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
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
    Variables that ``fun`` writes keep their new values.

    Args:
        fun: returns a scalar, or ``(scalar, aux)`` with ``has_aux``.
        grad_vars: a Variable, a list or dict of them, a collector, or a Node (its
            `TrainVar`s).
        argnums: positions of the arguments; negative ones count from the end.
        has_aux: whether ``fun`` returns auxiliary data too.
        return_value: whether to return the value of ``fun`` too.
        holomorphic: promise that ``fun`` is holomorphic, for complex inputs.
        allow_int: allow integer inputs (their gradients have dtype ``float0``).

    Raises:
        GradientError: a Variable is not of a differentiable dtype.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0])
        >>> g, value = bo.grad(lambda: (w**2).sum(), w, return_value=True)()
        >>> g.tolist(), float(value)
        ([2.0, 4.0], 5.0)
    """
    if fun is None:
        return functools.partial(
            grad,
            grad_vars=grad_vars,
            argnums=argnums,
            has_aux=has_aux,
            return_value=return_value,
            holomorphic=holomorphic,
            allow_int=allow_int,
        )
    transform = functools.partial(
        jax.grad, has_aux=True, holomorphic=holomorphic, allow_int=allow_int
    )
    return Differentiated(
        transform,
        fun,
        grad_vars,
        argnums,
        has_aux,
        return_value,
        holomorphic,
        allow_int,
    )


def value_and_grad(
    fun: Callable | None = None,
    grad_vars: Any = None,
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Any:
    """Return a function that computes ``(value, gradients)``, or with ``has_aux``
    ``((value, aux), gradients)``, as `jax.value_and_grad` does.

    Arguments and the structure of the gradients are those of `grad`.
    """
    if fun is None:
        return functools.partial(
            value_and_grad,
            grad_vars=grad_vars,
            argnums=argnums,
            has_aux=has_aux,
            holomorphic=holomorphic,
            allow_int=allow_int,
        )
    gradient = grad(
        fun,
        grad_vars,
        argnums,
        has_aux,
        True,
        holomorphic=holomorphic,
        allow_int=allow_int,
    )

    @functools.wraps(fun)
    def wrapper(*args, **kwargs):
        grads, value, *aux = gradient(*args, **kwargs)
        return ((value, *aux), grads) if aux else (value, grads)

    return wrapper
