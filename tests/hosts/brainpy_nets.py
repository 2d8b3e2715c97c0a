# SPDX-License-Identifier: Apache-2.0
"""A small brainpy model and its loss, made the same each time."""

import jax.numpy as jnp
import numpy as np

import brainopt as bo

_draw = np.random.RandomState(0)
X = jnp.asarray(_draw.randn(16, 3), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


def make(seed=1):
    """Return a two-layer net in training mode and its loss."""
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__(mode=bm.training_mode)
            self.l1 = bp.dnn.Dense(3, 8, mode=bm.training_mode)
            self.l2 = bp.dnn.Dense(8, 1, mode=bm.training_mode)

        def update(self, x):
            return self.l2(bm.tanh(self.l1(x)))

    bm.random.seed(seed)
    net = Net()
    return net, lambda: ((net(X) - Y) ** 2).mean()


def junk(count=3):
    """Raise brainpy's process-wide counters."""
    import brainpy as bp
    import brainpy.math as bm

    return [bp.dnn.Dense(1, 1, mode=bm.training_mode) for _ in range(count)]


def stepper(loss, opt, by):
    """Return a compiled step of ours; ``by`` is what the gradient is taken by."""
    gradient = bo.grad(loss, by, return_value=True)

    @bo.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    return step
