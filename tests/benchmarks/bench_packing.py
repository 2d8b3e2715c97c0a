# SPDX-License-Identifier: Apache-2.0
"""``pack=True`` against hand-written donated JAX, and against the step without it."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo
from brainopt.runtime import storage

from . import peers
from .hand_written import adamw
from .timing import Ratio, beside, interleaved, row, show

UPDATES = [(1, 300), (10, 200), (100, 30), (1000, 3)]
BARS = {10: 0.45, 100: 0.25, 1000: 0.12}
NETS = [(5, 16, 100, 0.5), (50, 16, 20, 0.5), (16, 256, 3, 1.02)]
PAIRS = 15


def loss_of(weights, x, y):
    """Return the loss of a net of tanh layers; weights and biases take turns."""
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        x = jnp.tanh(x @ w + b)
    return jnp.mean((x - y) ** 2)


def shapes_of(layers, width):
    """Return the shapes of the weights and biases of a net."""
    return [(width, width), (width,)] * layers


class Net(bo.Node):
    """Nothing but weights."""

    def __init__(self, shapes):
        rng = np.random.default_rng(0)
        scale = 0.3 / np.sqrt(max(max(s) for s in shapes) / 16)
        self.p = [
            bo.TrainVar((rng.normal(size=s) * scale).astype(np.float32)) for s in shapes
        ]


def by_hand(shapes, batch):
    """Return a donated step, and its first state."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, grads):
        t = state["t"] + 1
        if batch:
            grads = jax.grad(loss_of)(state["p"], *batch)
        held = zip(state["p"], state["m"], state["v"], grads, strict=True)
        p, m, v = zip(*(adamw(*some, t) for some in held), strict=True)
        return {"p": list(p), "m": list(m), "v": list(v), "t": t}

    weights = [jnp.copy(v.value) for v in Net(shapes).p]
    zeros = [[jnp.zeros_like(p) for p in weights] for _ in "mv"]
    return step, dict(p=weights, m=zeros[0], v=zeros[1], t=jnp.zeros((), jnp.int32))


def ours(shapes, batch, pack):
    """Return a step through `bo.jit`."""
    net = Net(shapes)
    opt = bo.optim.AdamW(1e-3, net, pack=pack)

    @bo.jit
    def step(grads):
        if batch:
            grads = bo.grad(lambda: loss_of([v.value for v in net.p], *batch), net)()
        opt.update(grads)

    return net, step


def wait(net):
    """Wait for a step, and leave its packs whole, as reading a value would not."""
    held = storage.resident
    jax.block_until_ready(net.p[0].value if held is None else held.box[0])


def compare(name, shapes, batch, calls, required, pack=True):
    """Return the row of a step, against hand-written JAX."""
    grads = [jnp.full(s, 1e-2, jnp.float32) for s in shapes]
    named = {f"p.{i}": g for i, g in enumerate(grads)}
    step, state = by_hand(shapes, batch)
    net, mine = ours(shapes, batch, pack)
    held = [state]

    def run():
        for _ in range(calls):
            mine(None if batch else named)
        wait(net)

    def reference():
        for _ in range(calls):
            held[0] = step(held[0], None if batch else grads)
        jax.block_until_ready(held[0])

    a, b, ratio = interleaved(run, reference, PAIRS)
    for variable, expected in zip(net.p, held[0]["p"], strict=True):
        np.testing.assert_allclose(variable.value, expected, rtol=1e-2, atol=1e-4)
    return row(name, a / calls, b / calls, ratio, required), reference


def update(count, calls, pack):
    """Return the row of the update alone, and what the picture needs of it."""
    what = "packed" if pack else "plain"
    bar = BARS.get(count, float("inf")) if pack else float("inf")
    name = f"update, {what}, {count} x 64 / hand-written donated jax"
    found, reference = compare(name, [(64,)] * count, (), calls, bar, pack)
    if not pack:
        others = {
            k: functools.partial(run, calls)
            for k, run in peers.adamw(count, 64).items()
        }
        found["peers"] = beside(reference, others)
    return {**found, "count": count, "series": f"brainopt, {what}"}


def net(layers, width, calls, required):
    """Return the row of a whole step of a net."""
    batch = jnp.ones((4, width)), jnp.zeros((4, width))
    name = f"step of {layers} layers of {width}, packed / hand-written donated jax"
    return compare(name, shapes_of(layers, width), batch, calls, required)[0]


def first_call(what, shapes, batch, required):
    """Return the row of processor time of a first call, packed against plain."""
    grads = {f"p.{i}": jnp.full(s, 1e-2, jnp.float32) for i, s in enumerate(shapes)}
    found = []
    for _ in range(9):
        pair = []
        for pack in (True, False):
            net, step = ours(shapes, batch, pack)
            start = time.process_time()
            step(None if batch else grads)
            jax.block_until_ready([variable.value for variable in net.p])
            pair.append(time.process_time() - start)
        found.append(pair)
    a, b = (statistics.median(side) for side in zip(*found, strict=True))
    name = f"first call, {what}, packed / plain, seconds of processor time"
    return row(name, a, b, Ratio([x / y for x, y in found]), required)


def main():
    """Yield the rows."""
    for size in UPDATES:
        yield update(*size, pack=False)
        yield update(*size, pack=True)
    for size in NETS:
        yield net(*size)
    batch = jnp.ones((4, 16)), jnp.zeros((4, 16))
    yield first_call("update of 100 x 64", [(64,)] * 100, (), 1.15)
    yield first_call("step of 50 layers of 16", shapes_of(50, 16), batch, 1.15)


if __name__ == "__main__":
    for line in main():
        show([line])
