# SPDX-License-Identifier: Apache-2.0
"""Gradients compared with finite differences, for losses that write state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Model, PyTree
from ..core import train_vars_of
from ..errors import GradientError, message
from ..runtime import snapshot
from ..transforms import Run, grad


@dataclass(frozen=True)
class GradientCheck:
    """The slope of a loss along one random direction of one variable.

    Attributes:
        path: of the variable.
        gradient: the slope by the gradient.
        differences: the slope by finite differences.
        tolerance: how far apart both may be.
    """

    path: str
    gradient: float
    differences: float
    tolerance: float

    @property
    def fits(self) -> bool:
        """Whether both slopes agree."""
        return abs(self.gradient - self.differences) <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.gradient:.6g} by the gradient, "
            f"{self.differences:.6g} by differences (within {self.tolerance:.1g})"
        )


def check_gradients(
    loss: Callable,
    grad_vars: Model,
    *args: Any,
    rtol: float = 1e-2,
    directions: int = 2,
    seed: int = 0,
) -> list[GradientCheck]:
    """Compare the gradient of a loss with finite differences.

    The loss runs from the same state each time, and nothing that it writes is kept. A
    surrogate gradient, or a `jax.custom_jvp` that is not the derivative, does not pass.

    Args:
        loss: returns one real number; may read and write Variables.
        grad_vars: a Node (each `TrainVar`), a Variable, or a list or dict of these.
        args: arguments of the loss.
        rtol: how far both may be apart, in (0, 1), as a part of the larger slope; what
            rounding and curvature leave unknown comes on top.
        directions: random directions for each variable, in [1, inf).
        seed: of the directions.

    Returns:
        One entry for each variable and direction.

    Raises:
        GradientError: listing every variable whose gradient does not fit.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0, 2.0], name="w")
        >>> checks = bo.debug.check_gradients(lambda x: (w * x).sum() ** 2, w, 3.0)
        >>> all(check.fits for check in checks)
        True

    Source: central differences at two step sizes, extrapolated (Richardson 1911).
    """
    found = train_vars_of(grad_vars).unique()
    variables = list(found.values())
    values = snapshot(variables)
    slopes = Run(grad(loss, grad_vars=dict(found)), args).out

    @jax.jit
    def value(new: PyTree):
        return Run(loss, args, zip(variables, new, strict=True)).out

    random = np.random.default_rng(seed)
    checks = []
    for i, path in enumerate(found):
        for _ in range(directions):
            along = jax.tree.map(lambda x: _direction(random, x), values[i])

            def at(t: float, i: int = i, along: PyTree = along):
                moved = jax.tree.map(
                    lambda x, v: x + (t * v).astype(x.dtype), values[i], along
                )
                return float(value([*values[:i], moved, *values[i + 1 :]]))

            inner = jax.tree.map(lambda g, v: (g * v).sum().real, slopes[path], along)
            by_gradient = float(sum(jax.tree.leaves(inner)))
            checks.append(_check(path, by_gradient, at, values[i], rtol))
    if unfit := [str(check) for check in checks if not check.fits]:
        raise GradientError(
            message(
                "These gradients are not the slope of the loss along a random "
                "direction:",
                unfit,
                "look for `stop_gradient`, a custom derivative or an operation that "
                "jumps (a spike, a rounding) between the variable and the loss.",
            )
        )
    return checks


def _direction(random: np.random.Generator, x: Any) -> Any:
    real = random.standard_normal(x.shape)
    if jnp.iscomplexobj(x):
        real = real + 1j * random.standard_normal(x.shape)
    return jnp.asarray(real, x.dtype)


def _check(
    path: str, by_gradient: float, at: Callable[[float], float], x: Any, rtol: float
) -> GradientCheck:
    leaves = jax.tree.leaves(x)
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves)
    scale = max(float(jnp.abs(leaf).max(initial=0)) for leaf in leaves)
    h = eps ** (1 / 4) * max(scale, 0.1)
    coarse, fine = ((at(t) - at(-t)) / (2 * t) for t in (h, h / 2))
    differences = (4 * fine - coarse) / 3
    size = max(abs(by_gradient), abs(differences))
    # Where the two step sizes disagree by more, the loss has no slope to speak of.
    curvature = min(abs(fine - coarse) / 3, 0.05 * size)
    tolerance = rtol * size + curvature + 8 * eps * abs(at(0.0)) / h
    return GradientCheck(path, by_gradient, differences, tolerance)
