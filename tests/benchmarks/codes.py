# SPDX-License-Identifier: Apache-2.0
"""Moments in few bits: the codes that `quantized_moments` compares.

A moment is cut into blocks of 256 numbers. A block keeps its largest modulus as a
float32, and each number as the place, in 8 bits, of a nearby level of a table.

Source: Dettmers et al. 2022, 8-bit Optimizers via Block-wise Quantization, for blocks
and the dynamic tables (section 1.3).
Differs: its tables have levels in the middle of equal steps, here too; stochastic
rounding is not in the paper.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 256


def dynamic(is_signed):
    """Return levels in [-1, 1] or [0, 1] that lie the denser the nearer to 0.

    Of the bits behind the sign the leading zeros are an exponent of ten, a 1 ends it,
    and the rest divides that decade linearly.
    """
    bits, found = 7 if is_signed else 8, []
    for zeros in range(7):
        edges = np.linspace(0.1, 1.0, 2 ** (bits - 1 - zeros) + 1)
        found.append(10.0**-zeros * (edges[:-1] + edges[1:]) / 2)
    found = np.sort(np.concatenate(found))
    below = -found[::-1] if is_signed else found[:0]
    return np.concatenate([below, [0.0], found, [1.0]]).astype(np.float32)


def float8(dtype, is_signed):
    """Return the finite numbers of a float of 8 bits, over the largest of them."""
    numbers = np.arange(256).astype(np.uint8).view(dtype).astype(np.float32)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    return (numbers if is_signed else numbers[numbers >= 0]) / numbers.max()


@dataclasses.dataclass(frozen=True)
class Levels:
    """The levels of a code in ascending order, and how to find them.

    Attributes:
        table: the levels.
        below: returns the place of the level below a number; None to search for it.
        level: returns the level of a place; None to read the table.
    """

    table: Any
    below: Any = None
    level: Any = None

    def place(self, y):
        """Return the place of the level below each number, the last one excepted."""
        if self.below is None:
            place = jnp.searchsorted(jnp.asarray(self.table), y) - 1
        else:
            place = jnp.floor(self.below(y)).astype(jnp.int32)
        return jnp.clip(place, 0, len(self.table) - 2)

    def at(self, place):
        """Return the level of each place."""
        if self.level is not None:
            return self.level(place.astype(jnp.float32))
        return jnp.asarray(self.table)[place]


def _computed(count, below, level):
    return Levels(level(np.arange(count, dtype=np.float32)), below, level)


EVEN = _computed(255, lambda y: y * 127 + 127, lambda k: (k - 127) / 127)
ROOTS = _computed(256, lambda y: jnp.sqrt(y) * 255, lambda k: (k / 255) ** 2)
"""Levels whose roots are even: a code is the root of v in 8 bits."""
POSITIVE = _computed(
    256, lambda y: jnp.sqrt(y) * 256 - 1, lambda k: ((k + 1) / 256) ** 2
)
"""The same without 0: a v of 0 beside an m divides by epsilon alone."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How moments are kept.

    Attributes:
        mean: levels of means, in [-1, 1]; None for float32, or a dtype.
        square: the same of mean squares, in [0, 1].
        is_stochastic: whether a number goes to either neighbour, so that the mean is
            right; otherwise to the nearer one.
        smallest: the size from which on variables are quantized.
    """

    mean: Any = None
    square: Any = None
    is_stochastic: bool = False
    smallest: int = 0

    def applies(self, param):
        """Whether the moments of a parameter are quantized."""
        return self.mean is not None and param.size >= self.smallest

    def kept(self, name, moment, key):
        """Return the slots of one moment, by name."""
        kind = self.square if name == "v" else self.mean
        if not isinstance(kind, Levels):
            return {name: _cast(moment, kind, key if self.is_stochastic else None)}
        codes, scales = encode(moment, kind, key if self.is_stochastic else None)
        return {f"{name}_codes": codes, f"{name}_scales": scales}

    def read(self, name, slots):
        """Return one moment in float32."""
        if name in slots:
            return slots[name].astype(jnp.float32)
        levels = self.square if name == "v" else self.mean
        return decode(slots[f"{name}_codes"], slots[f"{name}_scales"], levels)


def encode(x, levels, key=None):
    """Return codes in the shape of ``x``, and the scale of each block."""
    blocks = _blocks(x)
    scales = jnp.abs(blocks).max(1)
    y = blocks / jnp.where(scales > 0, scales, 1)[:, None]
    place = levels.place(y)
    low, above = levels.at(place), levels.at(place + 1)
    share = (y - low) / (above - low)
    bar = 0.5 if key is None else _uniform(key, y.shape)
    codes = (place + (share > bar)).astype(jnp.uint8)
    return codes.reshape(-1)[: x.size].reshape(x.shape), scales


def decode(codes, scales, levels):
    """Return the numbers of codes."""
    blocks = levels.at(_blocks(codes)) * scales[:, None]
    return blocks.reshape(-1)[: codes.size].reshape(codes.shape)


def _blocks(x):
    return jnp.pad(x.reshape(-1), (0, -x.size % BLOCK)).reshape(-1, BLOCK)


def _uniform(key, shape):
    # Enough digits for the changes of a mean, of half the bits.
    return (jax.random.bits(key, shape, jnp.uint16) + jnp.float32(0.5)) / 65536


def _cast(x, dtype, key):
    if key is None:
        return x.astype(dtype)
    # The low 16 bits of a float32 are what bfloat16 leaves out: noise below them, cut.
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32) + noise
    cut = bits & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(cut, jnp.float32).astype(dtype)


def optimizer(kind, scheme):
    """Return a class of optimizers like ``kind``, with moments as ``scheme`` says."""

    class Quantized(kind):
        _elementwise = False

        def init_slots(self, param, hyper):
            slots = super().init_slots(param, hyper)
            return slots if not scheme.applies(param) else _kept(scheme, slots, 0)

        def rule(self, grad, param, slots, hyper, step):
            if not scheme.applies(param):
                return super().rule(grad, param, slots, hyper, step)
            names = {name.partition("_")[0] for name in slots}
            wide = {name: scheme.read(name, slots) for name in sorted(names)}
            new, wide = super().rule(grad, param, wide, hyper, step)
            return new, _kept(scheme, wide, step)

    Quantized.__name__ = Quantized.__qualname__ = kind.__name__
    return Quantized


def _kept(scheme, moments, step):
    kept = {}
    for number, (name, moment) in enumerate(sorted(moments.items())):
        key = jax.random.fold_in(jax.random.key(number), step)
        kept |= scheme.kept(name, moment, jax.random.fold_in(key, moment.size))
    return kept


def _schemes():
    e4m3, e5m2 = jnp.float8_e4m3fn, jnp.float8_e5m2
    tables = {
        "bfloat16": (jnp.bfloat16, jnp.bfloat16),
        "linear": (EVEN, ROOTS),
        "linear, v > 0": (EVEN, POSITIVE),
        "dynamic": (Levels(dynamic(True)), Levels(dynamic(False))),
        "dynamic, v > 0": (Levels(dynamic(True)), Levels(dynamic(False)[1:])),
        "float8": (Levels(float8(e4m3, True)), Levels(float8(e5m2, False))),
    }
    found = {"float32": Scheme(), "bfloat16, m alone": Scheme(jnp.bfloat16)}
    for name, levels in tables.items():
        found[f"{name}, nearest"] = Scheme(*levels)
        found[f"{name}, stochastic"] = Scheme(*levels, is_stochastic=True)
    return found


SCHEMES = _schemes()
