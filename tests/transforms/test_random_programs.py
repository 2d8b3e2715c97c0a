# SPDX-License-Identifier: Apache-2.0
"""Random programs: what transforms compute is what plain Python computes."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

COUNT = 3

CONSTRUCTS = ["jit", "grad", "loop", "cond", "while", "remat", "lanes"]


def expression(rng, depth=2):
    """Return a random expression over the Variables, numbers and the argument."""
    kind = rng.choice(["read", "read", "number", "x", "+", "-", "*", "sin", "tanh"])
    if depth == 0 or kind in ("read", "number", "x"):
        if kind == "number":
            return "number", rng.choice([-1.5, -0.5, 0.25, 2.0])
        return ("x",) if kind == "x" else ("read", rng.randrange(COUNT))
    parts = 1 if kind in ("sin", "tanh") else 2
    return kind, *(expression(rng, depth - 1) for _ in range(parts))


def block(rng, depth=3, smooth=False):
    """Return one to three random statements; ``smooth`` ones have a gradient."""
    return [statement(rng, depth, smooth) for _ in range(rng.randint(1, 3))]


def statement(rng, depth, smooth):
    if depth == 0 or rng.random() < 0.4:
        return "write", rng.randrange(COUNT), expression(rng)
    # JAX has no reverse mode for a while loop.
    kind = rng.choice([c for c in CONSTRUCTS if not (smooth and c == "while")])
    if kind == "grad":
        by = rng.sample(range(COUNT), rng.randint(0, 2))
        return kind, by, block(rng, depth - 1, True)

    def inner():
        return block(rng, depth - 1, smooth)

    if kind in ("loop", "while"):
        return kind, rng.randint(0, 3), inner()
    if kind == "cond":
        return kind, expression(rng), inner(), inner()
    return kind, inner()


def value(expression, state, x):
    kind, *rest = expression
    if kind == "read":
        return state[rest[0]].value
    if kind == "number":
        return jnp.array(rest[0])
    if kind == "x":
        return x
    parts = [value(e, state, x) for e in rest]
    if kind == "+":
        return parts[0] + parts[1]
    if kind == "-":
        return parts[0] - parts[1]
    if kind == "*":
        return jnp.tanh(parts[0]) * parts[1]
    return {"sin": jnp.sin, "tanh": jnp.tanh}[kind](parts[0])


class Ours:
    """The constructs by the transforms."""

    def run(self, block, state, x):
        for kind, *rest in block:
            getattr(self, kind)(state, x, *rest)

    def write(self, state, x, i, expression):
        state[i].value = value(expression, state, x)

    def jit(self, state, x, block):
        bo.jit(lambda x: self.run(block, state, x))(x)

    def grad(self, state, x, by, block):
        def loss(x):
            self.run(block, state, x)
            return sum(v.value for v in state)

        chosen = [state[i] for i in by]
        grads = bo.grad(loss, chosen, 0)(x)
        self.absorb(state, jax.tree.leaves(grads))

    def absorb(self, state, grads):
        state[0].value = jnp.tanh(state[0].value + sum(grads))

    def loop(self, state, x, n, block):
        bo.for_loop(lambda y: self.run(block, state, y), x + jnp.arange(float(n)))

    def cond(self, state, x, expression, yes, no):
        bo.cond(
            value(expression, state, x) > 0,
            lambda x: self.run(yes, state, x),
            lambda x: self.run(no, state, x),
            x,
        )

    def __getattr__(self, name):
        return getattr(self, f"{name}_")

    def while_(self, state, x, n, block):
        def body(i):
            self.run(block, state, x + i)
            return i + 1

        bo.while_loop(body, lambda i: i < n, jnp.array(0.0))

    def remat(self, state, x, block):
        bo.remat(lambda x: self.run(block, state, x))(x)

    def lanes(self, state, x, block):
        local = [bo.Variable(jnp.stack([v.value, -v.value])) for v in state]
        mapped = bo.vmap(
            lambda x: self.run(block, local, x), axes=[(local, 0)], axis_size=2
        )
        mapped(jnp.stack([x, x + 1]))
        for v, two in zip(state, local, strict=True):
            v.value = two.value.sum()


class ByHand(Ours):
    """The same by plain Python; gradients by plain `jax.grad` of explicit state."""

    def jit(self, state, x, block):
        self.run(block, state, x)

    remat = jit

    def loop(self, state, x, n, block):
        for i in range(n):
            self.run(block, state, x + float(i))

    def while_(self, state, x, n, block):
        self.loop(state, x, n, block)

    def cond(self, state, x, expression, yes, no):
        # Both run and one is chosen, so that it works on tracers of `jax.grad` too.
        positive = value(expression, state, x) > 0
        outs = []
        for block in (yes, no):
            trial = [Box(v.value) for v in state]
            self.run(block, trial, x)
            outs.append(trial)
        for v, a, b in zip(state, *outs, strict=True):
            v.value = jnp.where(positive, a.value, b.value)

    def grad(self, state, x, by, block):
        def loss(values, x):
            # A Variable that stands twice gets its whole gradient twice.
            trial = [Box(v.value) for v in state]
            for i, new in values.items():
                trial[i].value = new
            self.run(block, trial, x)
            return sum(v.value for v in trial), [v.value for v in trial]

        values = {i: state[i].value for i in by}
        (by_v, by_x), after = jax.grad(loss, (0, 1), has_aux=True)(values, x)
        for v, new in zip(state, after, strict=True):
            v.value = new
        self.absorb(state, [*[by_v[i] for i in by], by_x])

    def lanes(self, state, x, block):
        sums = [0.0] * len(state)
        for sign, shift in ((1, 0), (-1, 1)):
            trial = [Box(sign * v.value) for v in state]
            self.run(block, trial, x + shift)
            sums = [s + v.value for s, v in zip(sums, trial, strict=True)]
        for v, total in zip(state, sums, strict=True):
            v.value = total


class Box:
    def __init__(self, value):
        self.value = value


def agree(seed):
    rng = random.Random(seed)
    program, x = block(rng), jnp.array(rng.choice([-1.0, 0.5, 2.0]))
    eager = [bo.Variable(jnp.array(float(i + 1))) for i in range(COUNT)]
    jitted = [bo.Variable(jnp.array(float(i + 1))) for i in range(COUNT)]
    boxes = [Box(jnp.array(float(i + 1))) for i in range(COUNT)]
    step = bo.jit(lambda x: Ours().run(program, jitted, x))
    for shift in (0.0, 1.0):
        Ours().run(program, eager, x + shift)
        step(x + shift)
        ByHand().run(program, boxes, x + shift)

    expected = [float(b.value) for b in boxes]
    np.testing.assert_allclose([float(v) for v in eager], expected, 1e-3, 1e-4)
    np.testing.assert_allclose([float(v) for v in jitted], expected, 1e-3, 1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_random_programs_agree_with_python(seed):
    agree(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 300))
def test_many_random_programs_agree_with_python(seed):
    agree(seed)
