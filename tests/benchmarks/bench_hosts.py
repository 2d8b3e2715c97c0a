# SPDX-License-Identifier: Apache-2.0
"""A brainpy model trained by brainpy's means and by ours."""

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


def _big_net():
    """Return a model that is nothing but weights; its gradients are given."""
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.w = bm.VarList([bm.TrainVar(jnp.ones(n)) for n in BIG])

    return Net(), None


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

    reference = "bp.optim.AdamW in bm.jit"
    small, big = "step of a small brainpy net", "update of 8 x 8,000,000 floats"
    cases = [
        (
            f"{small}, our AdamW in bm.jit / {reference}",
            _small_net,
            bm.jit,
            1.0,
            21,
            30,
        ),
        (f"{small}, all in bo.jit / {reference}", _small_net, bo.jit, 0.7, 21, 30),
        (f"{big}, all in bo.jit / {reference}", _big_net, bo.jit, 0.4, 9, 1),
    ]
    return [_compare(*case) for case in cases]


if __name__ == "__main__":
    for line in main():
        print(line)
