# SPDX-License-Identifier: Apache-2.0
"""Spiking networks of spyx, which are models of flax.nnx: the same routes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError

pytestmark = pytest.mark.hosts("spyx", "flax", "optax")

STEPS, TIME, BATCH, INPUTS, CLASSES = 20, 5, 8, 6, 3
_draw = np.random.RandomState(0)
SPIKES = jnp.asarray(_draw.rand(TIME, BATCH, INPUTS) < 0.4, jnp.float32)
LABELS = jnp.asarray(_draw.randint(0, CLASSES, BATCH))


def make(seed=0):
    """Return two layers of leaky neurons with trained decays."""
    import spyx
    from flax import nnx

    rngs = nnx.Rngs(seed)
    return spyx.nn.Sequential(
        nnx.Linear(INPUTS, 16, rngs=rngs),
        spyx.nn.LIF((16,), rngs=rngs),
        nnx.Linear(16, CLASSES, rngs=rngs),
        spyx.nn.LI((CLASSES,), rngs=rngs),
    )


def loss_of(model):
    import spyx

    traces, _ = spyx.nn.run(model, SPIKES)
    log_p = jax.nn.log_softmax(traces.sum(0))
    return -log_p[jnp.arange(BATCH), LABELS].mean()


def adamw(train_vars=None):
    return bo.optim.AdamW(1e-2, train_vars, dialect="optax")


@functools.cache
def expected():
    """Return the losses of spyx's own training step."""
    import spyx
    from flax import nnx

    model = make()
    opt = nnx.Optimizer(model, optax.adamw(1e-2, weight_decay=1e-2), wrt=nnx.Param)
    step = spyx.optimize.make_train_step(loss_of)
    return [float(step(model, opt)) for _ in range(STEPS)]


def by_the_functional_core():
    from flax import nnx

    model, opt = make(), adamw()
    state = opt.init(nnx.state(model, nnx.Param))

    @nnx.jit
    def step(model, state):
        value, grads = nnx.value_and_grad(loss_of)(model)
        params, state = opt.apply(nnx.state(model, nnx.Param), state, grads)
        nnx.update(model, params)
        return state, value

    for _ in range(STEPS):
        state, value = step(model, state)
        yield float(value)
    assert int(state["step"]) == STEPS


def by_eager_updates():
    from flax import nnx

    model = make()
    opt = adamw(model)
    gradient = nnx.jit(nnx.value_and_grad(loss_of))
    for _ in range(STEPS):
        value, grads = gradient(model)
        opt.update(grads)
        yield float(value)
    assert int(opt.step) == STEPS


def by_our_jit_of_a_split_model():
    from flax import nnx

    graph, params, rest = nnx.split(make(), nnx.Param, ...)
    net = bo.attach(params)
    opt = adamw(net)
    gradient = bo.grad(
        lambda: loss_of(nnx.merge(graph, net.model, rest)), net, return_value=True
    )

    @bo.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    for _ in range(STEPS):
        yield float(step())


ROUTES = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_losses_are_those_of_spyx(route):
    losses = list(route())

    np.testing.assert_allclose(losses, expected(), rtol=1e-6)
    assert losses[-1] < losses[0]


def test_layers_and_decays_have_paths_and_are_saved(tmp_path):
    model, other = make(), make(seed=3)
    report = bo.attach(model)

    assert {"layers.0.kernel", "layers.1.beta", "layers.3.beta"} <= set(report)
    checkpoint.save(tmp_path / "a.bopt", {"net": report})
    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(other)})
    assert float(loss_of(other)) == float(loss_of(model))


def test_bo_jit_around_a_model_is_refused_with_the_mend():
    model = make()

    with pytest.raises(HostError, match=r"opt\.apply\(params, state, grads\)"):
        bo.jit(lambda: loss_of(model))()
