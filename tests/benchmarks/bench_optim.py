# SPDX-License-Identifier: Apache-2.0
"""Optimizers: the plain step, the step with options on, and the first compile."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainopt as bo

from .bench_adamw import by_hand
from .timing import interleaved, row

SIZES = [(10, 64, 100), (100, 64, 20), (1000, 64, 3), (8, 8_000_000, 1)]
OPTION_SIZES = [(10, 64, 100), (100, 64, 20), (8, 1_000_000, 2)]
PAIRS, FEW_PAIRS = 61, 15


def _matrices(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _adamw(lr=1e-3, before=(), **settings):
    return optax.chain(*before, optax.adamw(lr, **{"weight_decay": 1e-2, **settings}))


_falling = optax.linear_schedule(0.1, 0.0, 1000)
_clip = [optax.clip_by_global_norm(1.0)]
OPTIONS = {
    "options off": ({}, _adamw()),
    "clip_norm": (dict(clip_norm=1.0), _adamw(before=_clip)),
    "mask": (dict(mask="matrices"), _adamw(mask=_matrices)),
    "lr schedule": (dict(lr=_falling), _adamw(_falling)),
    "decay schedule": (dict(weight_decay=_falling), _adamw(weight_decay=_falling)),
    "nesterov, mu_dtype": (
        dict(nesterov=True, mu_dtype=jnp.bfloat16),
        _adamw(nesterov=True, mu_dtype=jnp.bfloat16),
    ),
    "dialect of optax": (dict(dialect="optax"), _adamw()),
    "nonfinite": (dict(nonfinite="skip"), optax.apply_if_finite(_adamw(), 10**9)),
    "accumulate": (dict(accumulate=4), optax.MultiSteps(_adamw(), 4)),
    "clip, mask, two schedules": (
        dict(clip_norm=1.0, mask="matrices", lr=_falling, weight_decay=_falling),
        _adamw(_falling, _clip, mask=_matrices, weight_decay=_falling),
    ),
    "clip, mask, nonfinite": (
        dict(clip_norm=1.0, mask="matrices", nonfinite="skip"),
        optax.apply_if_finite(_adamw(before=_clip, mask=_matrices), 10**9),
    ),
}


def _arrays(count, size, value=1.0):
    return {f"w.{i}": jnp.full(size, value) for i in range(count)}


def _optimizer(count, size, **settings):
    variables = {k: bo.TrainVar(v) for k, v in _arrays(count, size).items()}
    settings = {"lr": 1e-3, "train_vars": variables, **settings}
    return variables, bo.optim.AdamW(**settings)


def _ours(count, size, calls, grads, is_eager=False, **settings):
    variables, opt = _optimizer(count, size, **settings)
    step = opt.update if is_eager else bo.jit(opt.update)

    def run():
        for _ in range(calls):
            step(grads)
        jax.block_until_ready(variables["w.0"].value)

    return variables, run


def plain(count, size, calls):
    """Return the row of AdamW with every option off, against hand-written JAX."""
    grads = _arrays(count, size, 1e-2)
    variables, ours = _ours(count, size, calls, grads)
    zeros = {"m": _arrays(count, size, 0.0), "v": _arrays(count, size, 0.0)}
    held = [_arrays(count, size), {"step": jnp.zeros((), jnp.int32), **zeros}]

    def reference():
        for _ in range(calls):
            held[:] = by_hand(*held, grads)
        jax.block_until_ready(held[0]["w.0"])

    a, b, ratio = interleaved(
        ours, reference, repeats=PAIRS if calls > 1 else FEW_PAIRS
    )
    np.testing.assert_allclose(
        variables["w.0"].value[:9], held[0]["w.0"][:9], rtol=1e-4
    )
    name = f"AdamW, options off, {count} x {size:,} / hand-written donated jax"
    return row(name, a / calls, b / calls, ratio, 1.05)


def _peer(tx, params):
    state = [params, tx.init(params)]

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return state, jax.jit(step, donate_argnums=(0, 1))


def beside_optax(name, tx, count, size, calls, **settings):
    """Return the row of one set of options, against optax with the same."""
    grads = _arrays(count, size, 1e-2)
    _, ours = _ours(count, size, calls, grads, **settings)
    held, step = _peer(tx, _arrays(count, size))

    def reference():
        for _ in range(calls):
            held[:] = step(*held, grads)
        jax.block_until_ready(held[0]["w.0"])

    a, b, ratio = interleaved(ours, reference, repeats=PAIRS)
    name = f"AdamW, {name}, {count} x {size:,} / optax"
    return row(name, a / calls, b / calls, ratio, 1.10)


def with_options():
    """Return the rows of each set of options."""
    return [
        beside_optax(name, tx, *size, **settings)
        for size in OPTION_SIZES
        for name, (settings, tx) in OPTIONS.items()
    ]


def eager(count, size, calls):
    """Return the row of ``update`` without ``bo.jit`` around it, against with it."""
    grads = _arrays(count, size, 1e-2)
    _, ours = _ours(count, size, calls, grads, is_eager=True)
    _, reference = _ours(count, size, calls, grads)
    a, b, ratio = interleaved(ours, reference, repeats=PAIRS)
    name = f"AdamW, eager update, {count} x {size:,} / the same in bo.jit"
    return row(name, a / calls, b / calls, ratio, 1.5)


def first_compile(count=300, repeats=FEW_PAIRS):
    """Return the row of the first call of a new step over ``count`` variables."""
    shapes = [(8, 8 + i % 5) for i in range(count)]
    params = {f"w.{i}": jnp.ones(shape) for i, shape in enumerate(shapes)}

    def ours():
        opt = bo.optim.AdamW(1e-3, {k: bo.TrainVar(v) for k, v in params.items()})
        step = bo.jit(opt.update)
        start = time.perf_counter()
        step(params)
        jax.block_until_ready(opt.step.value)
        return time.perf_counter() - start

    def reference():
        held, step = _peer(optax.adamw(1e-3), jax.tree.map(jnp.copy, params))
        start = time.perf_counter()
        jax.block_until_ready(step(*held, params))
        return time.perf_counter() - start

    ours(), reference()
    pairs = []
    for i in range(repeats):
        if i % 2:
            b, a = reference(), ours()
        else:
            a, b = ours(), reference()
        pairs.append((a, b))
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(x / y for x, y in pairs)
    return row(f"first call, {count} variables / optax", a, b, ratio, 1.0)


def main():
    """Return the rows."""
    rows = [*(plain(*size) for size in SIZES), *with_options(), first_compile()]
    return [*rows, eager(10, 64, 500), eager(100, 64, 100)]


if __name__ == "__main__":
    for line in main():
        print(line)
