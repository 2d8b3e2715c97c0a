# SPDX-License-Identifier: Apache-2.0
"""A brainpy model trained by brainpy's means and by ours.

The large net comes in two sizes on either side of a boundary. A step that is not
donated takes fresh memory for its whole state. From 32 MiB for one array (2²³ floats)
glibc gives such memory back to the system each time, so that the kernel must clear all
of its pages again; 8,000,000 floats lie 5 % below, where malloc may or may not find
what it freed before, and the peer's time moves from run to run by more than twice.
"""

import functools
import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from .timing import interleaved, row, show

SMALL = (10, 32, 32, 2)
LARGE = (4096, 2048) * 4 + (4096,)  # 8 layers of 2²³ weights
BELOW = (4000, 2000) * 4 + (4000,)  # 8 layers of 8,000,000


def _net(sizes, batch):
    """Return dense layers of brainpy's, of the given widths, and a step's loss."""
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__(mode=bm.training_mode)
            self.layers = bm.NodeList(
                bp.dnn.Dense(*ends, mode=bm.training_mode)
                for ends in itertools.pairwise(sizes)
            )

        def update(self, x):
            for layer in self.layers[:-1]:
                x = bm.tanh(layer(x))
            return self.layers[-1](x)

    bm.random.seed(0)
    net, x = Net(), _samples(batch, sizes[0])
    return net, lambda: (net(x) ** 2).mean()


def _samples(batch, width):
    return jnp.asarray(np.random.RandomState(0).randn(batch, width), jnp.float32)


def _optimizer(variables, theirs):
    import brainpy as bp

    if theirs:
        return bp.optim.AdamW(1e-3, variables)
    return bo.optim.AdamW(1e-3, variables, dialect="brainpy")


def _step(sizes, batch, theirs, transform):
    """Return a step that blocks, and the first parameter."""
    import brainpy.math as bm

    net, loss = _net(sizes, batch)
    variables = net.train_vars().unique()
    opt = _optimizer(variables, theirs)
    first = next(iter(variables.values()))
    grad = bo.grad if transform is bo.jit else bm.grad
    gradient = grad(loss, variables, return_value=True)

    @transform
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    return lambda: jax.block_until_ready((step(), first.value)), first


def _update(sizes, _, theirs, transform):
    """Return the update alone, by given gradients, and the first parameter."""
    net, _ = _net(sizes, 1)
    variables = net.train_vars().unique()
    opt = _optimizer(variables, theirs)
    first = next(iter(variables.values()))
    given = {key: jnp.full(v.shape, 1e-2) for key, v in variables.items()}
    update = transform(opt.update)
    return lambda: jax.block_until_ready((update(given), first.value)), first


def _by_hand(sizes, batch, update_alone):
    """Return the same work as one donated jax.jit, with AdamW written out."""
    b1, b2, lr, decay, eps = 0.9, 0.999, 1e-3, 1e-2, 1e-8
    net, _ = _net(sizes, batch)
    params = {key: v.value for key, v in net.train_vars().unique().items()}
    layers = [(f"{n.name}.W", f"{n.name}.b") for n in net.layers]
    x = _samples(batch, sizes[0])

    def loss(params):
        y = x
        for w, b in layers[:-1]:
            y = jnp.tanh(y @ params[w] + params[b])
        w, b = layers[-1]
        return ((y @ params[w] + params[b]) ** 2).mean()

    def new(p, m, v, g, rate):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        return p - rate * m / (jnp.sqrt(v) + eps) - lr * decay * p, m, v

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, m, v, t, grads):
        value = 0.0
        if grads is None:
            value, grads = jax.value_and_grad(loss)(params)
        rate = lr * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        changed = {k: new(params[k], m[k], v[k], grads[k], rate) for k in params}
        return value, *({k: c[i] for k, c in changed.items()} for i in range(3))

    zeros = {k: jnp.zeros_like(p) for k, p in params.items()}
    given = {k: jnp.full(p.shape, 1e-2) for k, p in params.items()}
    held, count = (params, zeros, jax.tree.map(jnp.copy, zeros)), 0

    def run():
        nonlocal held, count
        count += 1
        value, *held = step(*held, float(count), given if update_alone else None)
        jax.block_until_ready((value, held[0]))

    return run


def _touch(sizes):
    """Return a step that reads and writes weights and moments, and does nothing else.

    No optimizer can take less: it must read the gradients as well.
    """
    net, _ = _net(sizes, 1)
    params = [v.value for v in net.train_vars().unique().values()]
    held = [[jnp.copy(p) for _ in "pmv"] for p in params]
    scale = jax.jit(
        lambda held: jax.tree.map(lambda x: x * 0.999, held), donate_argnums=0
    )

    def run():
        nonlocal held
        held = jax.block_until_ready(scale(held))

    return run


def _compare(name, make, sizes, batch, transform, required, repeats, calls):
    import brainpy.math as bm

    ours, a = make(sizes, batch, False, transform)
    reference, b = make(sizes, batch, True, bm.jit)
    mine, theirs, ratio = interleaved(ours, reference, repeats=repeats, calls=calls)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-3, atol=1e-5)
    return row(f"{name} / bp.optim.AdamW in bm.jit", mine, theirs, ratio, required)


def _compare_with_hand(name, make, sizes, batch, required):
    ours, _ = make(sizes, batch, False, bo.jit)
    timed = interleaved(ours, _by_hand(sizes, batch, make is _update), repeats=31)
    return row(f"{name} / donated jax.jit by hand", *timed, required)


def _least(sizes, count):
    import brainpy.math as bm

    reference, _ = _update(sizes, 1, True, bm.jit)
    repeats, calls = count
    timed = interleaved(_touch(sizes), reference, repeats=repeats, calls=calls)
    name = f"reading and writing 8 x {sizes[0] * sizes[1]:,} weights and moments once"
    return row(f"{name} / bp.optim.AdamW in bm.jit", *timed, float("inf"))


def main():
    """Return the rows, or none where brainpy is not installed."""
    if importlib.util.find_spec("brainpy") is None:
        return []
    import brainpy.math as bm

    step = "loss, gradient and update of a small brainpy net"
    # Pairs, and calls in each; of updates as many as last for a minute, since the speed
    # of the memory, on which they depend alone, drifts by half within seconds.
    small, update, large = (101, 10), (45, 5), (15, 5)
    rows = [
        _compare(f"{step}, our AdamW in bm.jit", _step, SMALL, 8, bm.jit, 1.0, *small),
        _compare(f"{step}, all in bo.jit", _step, SMALL, 8, bo.jit, 0.7, *small),
    ]
    # How much of a step is its update is the model's choice, so that only the update
    # alone has a bar; the matrix products are the same on both sides.
    for sizes in LARGE, BELOW:
        for what, make, bar, count in (
            ("update alone", _update, 0.4 if sizes is LARGE else float("inf"), update),
            ("step", _step, float("inf"), large),
        ):
            name = f"{what} of 8 x {sizes[0] * sizes[1]:,} weights in bo.jit"
            rows.append(_compare(name, make, sizes, 1, bo.jit, bar, *count))
            if sizes is LARGE:
                rows.append(_compare_with_hand(name, make, sizes, 1, 1.05))
            elif make is _update:
                rows.append(_least(sizes, count))
    return rows


if __name__ == "__main__":
    show(main())
