# SPDX-License-Identifier: Apache-2.0
"""The AdamW step through `bo.jit`, against a hand-written donated `jax.jit`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from .timing import interleaved, row

SIZES = [(10, 64, 100), (100, 64, 20), (1000, 64, 3), (8, 8_000_000, 1)]
REQUIRED = 1.10


@functools.partial(jax.jit, donate_argnums=(0, 1))
def by_hand(params, state, grads):
    """AdamW as one would write it for one model, with constants compiled in."""
    lr, b1, b2, eps, decay = 1e-3, 0.9, 0.999, 1e-8, 1e-2
    step = state["step"] + 1
    c1 = 1 - b1 ** step.astype(jnp.float32)
    c2 = 1 - b2 ** step.astype(jnp.float32)
    m = {k: b1 * state["m"][k] + (1 - b1) * g for k, g in grads.items()}
    v = {k: b2 * state["v"][k] + (1 - b2) * g * g for k, g in grads.items()}
    new = {
        k: p - lr * (m[k] / c1 / (jnp.sqrt(v[k] / c2) + eps) + decay * p)
        for k, p in params.items()
    }
    return new, {"step": step, "m": m, "v": v}


class Model(bo.Node):
    """Nothing but weights."""

    def __init__(self, count: int, size: int):
        self.w = [bo.TrainVar(np.ones(size, np.float32)) for _ in range(count)]


def compare(count: int, size: int, calls: int):
    """Return the row for ``count`` variables of ``size`` floats."""
    model = Model(count, size)
    opt = bo.optim.AdamW(1e-3, model)
    grads = {f"w.{i}": jnp.full(size, 1e-2) for i in range(count)}

    @bo.jit
    def step(grads):
        opt.update(grads)

    params = {k: jnp.ones(size) for k in grads}
    zeros = {k: jnp.zeros(size) for k in grads}
    state = {"step": jnp.zeros((), jnp.int32), "m": zeros}
    state["v"] = {k: jnp.zeros(size) for k in grads}
    held = [params, state]

    def ours():
        for _ in range(calls):
            step(grads)
        jax.block_until_ready(model.w[0].value)

    def reference():
        for _ in range(calls):
            held[:] = by_hand(*held, grads)
        jax.block_until_ready(held[0]["w.0"])

    a, b, ratio = interleaved(ours, reference, repeats=61 if calls > 1 else 15)
    np.testing.assert_allclose(model.w[0].value[:64], held[0]["w.0"][:64], rtol=1e-4)
    name = f"AdamW step, {count} x {size:,} floats / hand-written donated jax.jit"
    return row(name, a / calls, b / calls, ratio, REQUIRED)


def main():
    """Return the rows of all sizes."""
    return [compare(*size) for size in SIZES]


if __name__ == "__main__":
    for line in main():
        print(line)
