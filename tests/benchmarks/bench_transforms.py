# SPDX-License-Identifier: Apache-2.0
"""The transforms against hand-written JAX: dispatch, memory, tracing, loops."""

import contextlib
import functools
import io
import time

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from . import peers
from .hand_written import adamw, adamw_state, coba, coba_weights, lif_loss, lif_params
from .timing import beside, interleaved, row

SIZES = [(10, 64, 100), (100, 64, 30), (1000, 64, 5), (8, 8_000_000, 1)]
NETS = [(100, 100, 100, 32, 1.02), (10, 10, 20, 1, 1.10)]


class Weights(bo.Node):
    """Weights and AdamW moments as Variables, with a step as one would write it."""

    def __init__(self, count: int, size: int):
        self.p, self.m, self.v = (
            [bo.Variable(np.full(size, x, np.float32)) for _ in range(count)]
            for x in (1.0, 0.0, 0.0)
        )
        self.t = bo.Variable(jnp.zeros((), jnp.int32))

    @bo.jit
    def step(self, grads):
        self.t.value += 1
        for p, m, v, g in zip(self.p, self.m, self.v, grads, strict=True):
            p.value, m.value, v.value = adamw(
                p.value, m.value, v.value, g, self.t.value
            )


@functools.partial(jax.jit, donate_argnums=0)
def by_hand(state, grads):
    """Take the same step with explicit state."""
    t = state["t"] + 1
    new = [
        adamw(p, m, v, g, t)
        for p, m, v, g in zip(state["p"], state["m"], state["v"], grads, strict=True)
    ]
    p, m, v = map(list, zip(*new, strict=True))
    return {"p": p, "m": m, "v": v, "t": t}


def dispatch(count: int, size: int, calls: int):
    """Return the row of an AdamW step."""
    net, held = Weights(count, size), [adamw_state(count, size)]
    grads = [jnp.full(size, 1e-2, jnp.float32) for _ in range(count)]
    step = net.step

    def ours():
        for _ in range(calls):
            step(grads)
        jax.block_until_ready(net.p[0].value)

    def reference():
        for _ in range(calls):
            held[0] = by_hand(held[0], grads)
        jax.block_until_ready(held[0]["p"])

    a, b, ratio = interleaved(ours, reference, repeats=61 if calls > 1 else 21)
    np.testing.assert_allclose(net.p[0].value[:8], held[0]["p"][0][:8], rtol=1e-5)
    others = peers.adamw(count, size)
    others = {k: functools.partial(run, calls) for k, run in others.items()}
    others = beside(reference, others, repeats=9 if calls > 1 else 5)
    name = f"AdamW step through bo.jit, {count} x {size:,} / hand-written jax.jit"
    bar = 1.05 if size < 1000 else 1.02
    return row(name, a / calls, b / calls, ratio, bar, others)


def memory():
    """Return the row of the bytes that are alive around a large step."""
    net = Weights(4, 4_000_000)
    grads = [jnp.full(4_000_000, 1e-2, jnp.float32) for _ in range(4)]
    net.step(grads)
    net.step(grads)
    needed = 4 * 4 * 4 * 4_000_000
    stats = net.step.lower(grads).compile().memory_analysis()
    alive = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    alive += stats.output_size_in_bytes - stats.alias_size_in_bytes
    name = "live bytes at the peak of a step / (params + moments + gradients)"
    return row(name, alive, needed, alive / needed, 1.05, unit="B")


class Recurrent(bo.Node):
    """A recurrent layer of LIF neurons and a readout."""

    def __init__(self, n_in: int, n: int, batch: int):
        self.w = {k: bo.TrainVar(v) for k, v in lif_params(n_in, n).items()}
        self.v = bo.Variable(jnp.zeros((batch, n)))
        self.s = bo.Variable(jnp.zeros((batch, n)))
        self.readout = bo.Variable(jnp.zeros((batch, 2)))

    def update(self, x):
        w = {k: v.value for k, v in self.w.items()}
        state = self.v.value, self.s.value, self.readout.value
        self.v.value, self.s.value, self.readout.value = lif_loss.cell(w, state, x)

    def loss(self, xs, target):
        for variable in (self.v, self.s, self.readout):
            variable.value = jnp.zeros_like(variable.value)
        bo.for_loop(self.update, xs)
        return jnp.mean((self.readout.value - target) ** 2)


def spikes(n_in: int, steps: int, batch: int):
    """Return the input of the network, and its target."""
    xs = jax.random.bernoulli(jax.random.key(1), 0.3, (steps, batch, n_in))
    return xs.astype(jnp.float32), jnp.ones((batch, 2))


def make_bptt(n_in: int, n: int, steps: int, batch: int):
    """Return our training step and the hand-written one."""
    net = Recurrent(n_in, n, batch)
    xs, target = spikes(n_in, steps, batch)
    gradient = bo.grad(net.loss, net.w, return_value=True)

    @bo.jit
    def step(xs, target):
        grads, value = gradient(xs, target)
        for k, g in grads.items():
            net.w[k].value -= 1e-2 * g
        return value

    @functools.partial(jax.jit, donate_argnums=0)
    def reference(w, xs, target):
        value, grads = jax.value_and_grad(lif_loss)(w, xs, target)
        return jax.tree.map(lambda p, g: p - 1e-2 * g, w, grads), value

    held = [lif_params(n_in, n)]

    def ours():
        return jax.block_until_ready(step(xs, target))

    def hand():
        held[0], value = reference(held[0], xs, target)
        return jax.block_until_ready(value)

    return ours, hand


def bptt(n_in: int, n: int, steps: int, batch: int, required: float):
    """Return the row of a training step through time."""
    ours, hand = make_bptt(n_in, n, steps, batch)
    calls = 1 if batch > 1 else 20
    a, b, ratio = interleaved(ours, hand, 101 if batch > 1 else 301, calls)
    np.testing.assert_allclose(ours(), hand(), rtol=1e-3)
    others = peers.bptt(n_in, n, *spikes(n_in, steps, batch))
    others = {k: functools.partial(run, calls) for k, run in others.items()}
    others = beside(lambda: [hand() for _ in range(calls)], others)
    name = f"BPTT step, LIF net {n_in}/{n}, T={steps}, batch {batch} / hand-written"
    return row(name, a, b, ratio, required, others)


def first_call(n_in: int, n: int, steps: int, batch: int, repeats: int = 9):
    """Return the row of the first call: tracing and compiling."""

    def seconds(function):
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    pairs = []
    for i in range(repeats):
        jax.clear_caches()
        both = make_bptt(n_in, n, steps, batch)
        order = (0, 1) if i % 2 else (1, 0)
        taken = {k: seconds(both[k]) for k in order}
        pairs.append((taken[0], taken[1]))
    a, b = np.median(pairs, axis=0)
    ratio = float(np.median([x / y for x, y in pairs]))
    name = f"first call of the LIF net {n_in}/{n}, T={steps} / hand-written"
    return row(name, float(a), float(b), ratio, 1.15)


def loop_of_steps(batch: int = 1):
    """Return the row of 100 training steps in one loop against 100 calls.

    One sample a step: with more, XLA's small matrix products on a CPU (1.4 us a step
    for 4 samples, the same in a hand-written scan) outweigh what the loop saves.
    """
    w, v = bo.TrainVar(jnp.ones((8, 8))), bo.Variable(jnp.zeros((8, 8)))

    def step(x):
        g = bo.grad(lambda: jnp.mean((jnp.tanh(x @ w.value) - 1) ** 2), w)()
        v.value = 0.9 * v.value + g
        w.value = w.value - 0.01 * v.value

    xs = jax.random.normal(jax.random.key(0), (100, batch, 8))
    single = bo.jit(step)
    loop = bo.jit(lambda xs: bo.for_loop(step, xs))
    slices = list(xs)

    def ours():
        loop(xs)
        jax.block_until_ready(w.value)

    def reference():
        for x in slices:
            single(x)
        jax.block_until_ready(w.value)

    a, b, ratio = interleaved(ours, reference, repeats=61, calls=3)
    return row("100 training steps in one loop / 100 calls", a, b, ratio, 0.15)


def simulation(neurons: int = 4000, steps: int = 1000):
    """Return the row of a COBA network simulated forward."""
    weights = coba_weights(neurons)
    start = coba.initial(neurons)
    state = [bo.Variable(x) for x in start]

    def update():
        new = coba(weights, [v.value for v in state])
        for variable, value in zip(state, new, strict=True):
            variable.value = value
        return state[-1].value.sum()

    run = bo.jit(lambda: bo.for_loop(update, length=steps))

    def body(carry, _):
        new = coba(weights, carry)
        return new, new[-1].sum()

    hand = jax.jit(lambda s: jax.lax.scan(body, s, None, steps))

    def ours():
        for variable, value in zip(state, start, strict=True):
            variable.value = value
        return jax.block_until_ready(run())

    def reference():
        return jax.block_until_ready(hand(start))[1]

    np.testing.assert_array_equal(ours(), reference())
    a, b, ratio = interleaved(ours, reference, repeats=15, warmup=0)
    others = peers.simulation(neurons, steps)
    name = f"COBA network, {neurons} LIF, {steps} steps"
    rows = [row(f"{name} / hand-written scan", a, b, ratio, 1.02)]
    for peer, theirs in others.items():
        np.testing.assert_array_equal(ours(), theirs())
        a, b, ratio = interleaved(ours, theirs, repeats=15)
        rows.append(row(f"{name} / {peer}", a, b, ratio, 1.0))
    return rows


def progress(steps: int = 80_000, size: int = 30_000):
    """Return the row of a loop that shows how far it is."""
    v = bo.Variable(jnp.ones(size))

    def body():
        v.value = jnp.tanh(v.value) + 0.1

    runs = [
        bo.jit(lambda b=b: bo.for_loop(body, length=steps, progress_bar=b))
        for b in (True, False)
    ]

    def call(run):
        with contextlib.redirect_stderr(io.StringIO()):
            run()
            jax.block_until_ready(v.value)
            jax.effects_barrier()

    a, b, ratio = interleaved(lambda: call(runs[0]), lambda: call(runs[1]), repeats=9)
    return row("loop with a progress bar / without", a, b, ratio, 1.01)


def main():
    """Return the rows of all measures."""
    rows = [dispatch(*size) for size in SIZES]
    rows.append(memory())
    rows += [bptt(*net) for net in NETS]
    rows += [first_call(*net[:4]) for net in NETS]
    return [*rows, loop_of_steps(), progress(), *simulation()]


if __name__ == "__main__":
    for line in main():
        print(line)
