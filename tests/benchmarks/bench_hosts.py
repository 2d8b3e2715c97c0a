# SPDX-License-Identifier: Apache-2.0
"""A brainpy model trained by brainpy's means and by ours."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from .timing import interleaved, row

BIG = [8_000_000] * 8


def _small_net():
    """Return a step's loss for a dense net of 1,500 parameters."""
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__(mode=bm.training_mode)
            self.l1 = bp.dnn.Dense(10, 32, mode=bm.training_mode)
            self.l2 = bp.dnn.Dense(32, 32, mode=bm.training_mode)
            self.l3 = bp.dnn.Dense(32, 2, mode=bm.training_mode)

        def update(self, x):
            return self.l3(bm.tanh(self.l2(bm.tanh(self.l1(x)))))

    bm.random.seed(0)
    net, x = Net(), jnp.asarray(np.random.RandomState(0).randn(8, 10), jnp.float32)
    return net, lambda: (net(x) ** 2).mean()


def _weights():
    """Return a model that is nothing but weights, and a loss that reads each once."""
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.w = bm.VarList([bm.TrainVar(jnp.ones(n)) for n in BIG])

    net = Net()
    return net, lambda: sum((w.value**2).sum() for w in net.w)


def _weights_without_a_loss():
    """Return the same model; its gradients are given."""
    return _weights()[0], None


def _optimizer(variables, theirs):
    import brainpy as bp

    if theirs:
        return bp.optim.AdamW(1e-3, variables)
    return bo.optim.AdamW(1e-3, variables, dialect="brainpy")


def _step(make, theirs, transform):
    """Return a step that blocks, and the first parameter."""
    import brainpy.math as bm

    net, loss = make()
    variables = net.train_vars().unique()
    opt = _optimizer(variables, theirs)
    first = next(iter(variables.values()))
    if loss is None:
        given = {key: jnp.full(v.shape, 1e-2) for key, v in variables.items()}
        update = transform(opt.update)
        return lambda: jax.block_until_ready((update(given), first.value)), first
    grad = bo.grad if transform is bo.jit else bm.grad
    gradient = grad(loss, variables, return_value=True)

    @transform
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    return lambda: jax.block_until_ready((step(), first.value)), first


def _by_hand():
    """Return the step of `_weights` as one donated jax.jit, with AdamW written out."""
    b1, b2, lr, decay, eps = 0.9, 0.999, 1e-3, 1e-2, 1e-8

    def loss(params):
        return sum((w**2).sum() for w in params)

    def new(p, m, v, g, rate):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        return p - rate * m / (jnp.sqrt(v) + eps) - lr * decay * p, m, v

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, moments, t):
        value, grads = jax.value_and_grad(loss)(params)
        rate = lr * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        changed = [
            new(p, m, v, g, rate)
            for p, (m, v), g in zip(params, moments, grads, strict=True)
        ]
        return value, [p for p, *_ in changed], [mv for _, *mv in changed]

    held = [jnp.ones(n) for n in BIG], [[jnp.zeros(n) for _ in "mv"] for n in BIG]
    count = 0

    def run():
        nonlocal held, count
        count += 1
        value, *held = step(*held, float(count))
        jax.block_until_ready((value, held[0][0]))

    return run


def _compare(name, make, transform, required, repeats, calls):
    import brainpy.math as bm

    ours, a = _step(make, False, transform)
    reference, b = _step(make, True, bm.jit)
    mine, theirs, ratio = interleaved(ours, reference, repeats=repeats, calls=calls)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-3, atol=1e-5)
    return row(name, mine, theirs, ratio, required)


def main():
    """Return the rows, or none where brainpy is not installed."""
    if importlib.util.find_spec("brainpy") is None:
        return []
    import brainpy.math as bm

    theirs = "bp.optim.AdamW in bm.jit"
    step = "loss, gradient and update of a small brainpy net"
    update = "update of 8 x 8,000,000 floats by given gradients"
    whole = "loss, gradient and update of 8 x 8,000,000 floats"
    short, big = (101, 10), (61, 1)  # pairs, and calls in each
    cases = [
        (f"{step}, our AdamW in bm.jit / {theirs}", _small_net, bm.jit, 1.0, *short),
        (f"{step}, all in bo.jit / {theirs}", _small_net, bo.jit, 0.7, *short),
        (f"{update}, in bo.jit / {theirs}", _weights_without_a_loss, bo.jit, 0.4, *big),
        (f"{whole}, in bo.jit / {theirs}", _weights, bo.jit, 0.7, *big),
    ]
    rows = [_compare(*case) for case in cases]
    ours, _ = _step(_weights, False, bo.jit)
    timed = interleaved(ours, _by_hand(), repeats=15)
    return [*rows, row(f"{whole}, in bo.jit / donated jax.jit by hand", *timed, 1.05)]


if __name__ == "__main__":
    for line in main():
        print(line)
