# SPDX-License-Identifier: Apache-2.0
"""flax.nnx: a state that was split off trains in our transforms as other pytrees do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts("flax", "optax")

X = jnp.asarray(np.random.RandomState(0).randn(16, 3), jnp.float32)


def split():
    from flax import nnx

    return nnx.split(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))


def loss_of(graphdef, state):
    from flax import nnx

    return ((nnx.merge(graphdef, state)(X) - 1.0) ** 2).mean()


def test_it_trains_as_optax_trains_it():
    graphdef, state = split()
    theirs, expected = optax.adamw(1e-2, weight_decay=1e-2), []
    moments, params = theirs.init(state), state
    for _ in range(24):
        value, grads = jax.value_and_grad(lambda p: loss_of(graphdef, p))(params)
        change, moments = theirs.update(grads, moments, params)
        params = optax.apply_updates(params, change)
        expected.append(float(value))

    net = bo.attach(state)
    opt = bo.optim.AdamW(1e-2, net, dialect="optax")
    gradient = bo.grad(lambda: loss_of(graphdef, net.model), net, return_value=True)

    @bo.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    np.testing.assert_allclose([step() for _ in range(24)], expected, rtol=1e-6)


MAKERS = {
    "SAM": lambda held: bo.optim.SAM(bo.optim.SGD(0.1, held)),
    "LBFGS": lambda held: bo.optim.LBFGS(1.0, held, max_iter=2),
}


@pytest.mark.parametrize("name", MAKERS)
def test_optimizers_that_call_the_loss_train_it(name):
    graphdef, state = split()
    net = bo.attach(state)
    kernel, bias = (bo.TrainVar(net[path].value) for path in ("kernel", "bias"))
    ours = MAKERS[name](net)
    plain = MAKERS[name]({"kernel": kernel, "bias": bias})
    step = bo.jit(lambda: ours.step(lambda: loss_of(graphdef, net.model)))
    same = bo.jit(
        lambda: plain.step(lambda: ((X @ kernel.value + bias - 1.0) ** 2).mean())
    )

    losses = np.array([(step(), same()) for _ in range(4)])
    np.testing.assert_allclose(*losses.T, rtol=1e-5, atol=1e-12)
    assert losses[3, 0] < 0.8 * losses[0, 0]
