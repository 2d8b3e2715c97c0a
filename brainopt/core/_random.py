# SPDX-License-Identifier: Apache-2.0
"""Random state: a Variable that holds a PRNG key and splits it at each use."""

from __future__ import annotations

from typing import Any

import jax

from .._compat import is_key_array
from .._typing import ArrayLike, DTypeLike, Shape
from ..errors import VariableError, message
from ..runtime import exclusive
from ._operators import unwrap
from ._variable import Variable


class RandomState(Variable):
    """A PRNG key that is split whenever a key is taken; saved like any Variable.

    Inside and outside transforms ``rng.split_key()`` gives a fresh key and advances
    the state, so the same seed gives the same numbers however the code is compiled.

    Args:
        seed: an int, or a key (``jax.random.key`` or ``jax.random.PRNGKey``).
        name: shown in errors and by ``repr``.

    Example:
        >>> import brainopt as bo
        >>> rng = bo.RandomState(0)
        >>> rng.normal((3,)).shape
        (3,)

    Source: `jax.random`; the methods take that module's arguments after the key.
    """

    __slots__ = ()

    _draws = True

    def __init__(self, seed: int | ArrayLike = 0, *, name: str | None = None):
        super().__init__(_key(seed), name=name)

    def seed(self, seed: int | ArrayLike) -> None:
        """Start anew from ``seed`` (an int or a key)."""
        self.value = _key(seed)

    def split_key(self) -> jax.Array:
        """Return a fresh key and advance the state."""
        # The state is a key that no sample is drawn from.
        with exclusive():
            state, key = jax.random.split(self.value)
            self.value = state
        return key

    def split_keys(self, n: int) -> jax.Array:
        """Return ``n`` fresh keys of shape ``(n,)`` and advance the state."""
        # One split for all, of which the first key is the next state.
        with exclusive():
            keys = jax.random.split(self.value, n + 1)
            self.value = keys[0]
        return keys[1:]

    def uniform(
        self,
        shape: Shape = (),
        dtype: DTypeLike = float,
        minval: jax.typing.ArrayLike = 0.0,
        maxval: jax.typing.ArrayLike = 1.0,
    ) -> jax.Array:
        """Return samples of the uniform distribution on ``[minval, maxval)``."""
        return jax.random.uniform(self.split_key(), shape, dtype, minval, maxval)

    def normal(self, shape: Shape = (), dtype: DTypeLike = float) -> jax.Array:
        """Return samples of the standard normal distribution."""
        return jax.random.normal(self.split_key(), shape, dtype)

    def bernoulli(
        self, p: jax.typing.ArrayLike = 0.5, shape: Shape | None = None
    ) -> jax.Array:
        """Return True with probability ``p``."""
        return jax.random.bernoulli(self.split_key(), p, shape)

    def randint(
        self,
        shape: Shape,
        minval: jax.typing.ArrayLike,
        maxval: jax.typing.ArrayLike,
        dtype: DTypeLike = int,
    ) -> jax.Array:
        """Return integers of ``[minval, maxval)``."""
        return jax.random.randint(self.split_key(), shape, minval, maxval, dtype)

    def permutation(
        self, x: jax.typing.ArrayLike, axis: int = 0, independent: bool = False
    ) -> jax.Array:
        """Return ``x`` (or ``arange(x)``) in random order along ``axis``."""
        return jax.random.permutation(self.split_key(), x, axis, independent)

    def choice(
        self,
        a: jax.typing.ArrayLike,
        shape: Shape = (),
        replace: bool = True,
        p: jax.typing.ArrayLike | None = None,
        axis: int = 0,
    ) -> jax.Array:
        """Return samples from ``a`` (or ``arange(a)``)."""
        return jax.random.choice(self.split_key(), a, shape, replace, p, axis)

    def poisson(
        self,
        lam: jax.typing.ArrayLike,
        shape: Shape | None = None,
        dtype: DTypeLike = int,
    ) -> jax.Array:
        """Return samples of the Poisson distribution with rate ``lam``."""
        return jax.random.poisson(self.split_key(), lam, shape, dtype)

    def exponential(self, shape: Shape = (), dtype: DTypeLike = float) -> jax.Array:
        """Return samples of the exponential distribution with mean 1."""
        return jax.random.exponential(self.split_key(), shape, dtype)

    def gamma(
        self,
        a: jax.typing.ArrayLike,
        shape: Shape | None = None,
        dtype: DTypeLike = float,
    ) -> jax.Array:
        """Return samples of the gamma distribution with shape parameter ``a``."""
        return jax.random.gamma(self.split_key(), a, shape, dtype)


def _key(seed: Any) -> jax.Array:
    # `jax.random.PRNGKey` gives the bare data of a key; typed keys say what they are.
    seed = unwrap(seed)
    if getattr(seed, "dtype", None) == jax.numpy.uint32 and seed.ndim == 1:
        seed = jax.random.wrap_key_data(jax.numpy.array(seed))
    key = seed if is_key_array(seed) else jax.random.key(seed)
    if key.shape:
        raise VariableError(
            message(
                f"A RandomState holds one key, not keys of shape {key.shape}.",
                help="use one RandomState each, or a Variable of keys.",
            )
        )
    return key
