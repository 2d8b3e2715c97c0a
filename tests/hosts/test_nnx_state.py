# SPDX-License-Identifier: Apache-2.0
"""flax.nnx: parameters that were split off train in our transforms as other pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError

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


def make(seed=0):
    """Return a model that changes more than its parameters."""
    from flax import nnx

    rngs = nnx.Rngs(seed)
    layers = nnx.Linear(3, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
    return nnx.Sequential(
        *layers, nnx.Dropout(0.3, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)
    )


def by_nnx(steps):
    from flax import nnx

    model = make()
    opt = nnx.Optimizer(model, optax.adamw(1e-2, weight_decay=1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, opt):
        value, grads = nnx.value_and_grad(lambda m: ((m(X) - 1.0) ** 2).mean())(model)
        opt.update(model, grads)
        return value

    return [float(step(model, opt)) for _ in range(steps)], model


class Rest(bo.Node):
    def __init__(self, state):
        self.state = bo.Variable(state)


def begin(seed):
    from flax import nnx

    graphdef, params, rest = nnx.split(make(seed), nnx.Param, ...)
    net, rest = bo.attach(params), Rest(rest)
    opt = bo.optim.AdamW(1e-2, net, dialect="optax")

    def loss():
        model = nnx.merge(graphdef, net.model, rest.state.value)
        value = ((model(X) - 1.0) ** 2).mean()
        rest.state.value = nnx.state(model, nnx.Not(nnx.Param))
        return value

    @bo.jit
    def step():
        grads, value = bo.grad(loss, net, return_value=True)()
        opt.update(grads)
        return value

    return {"net": net, "rest": rest, "opt": opt}, step


def test_what_a_model_changes_besides_is_kept_in_a_variable(tmp_path):
    expected, model = by_nnx(24)
    run, step = begin(seed=0)

    np.testing.assert_allclose([step() for _ in range(20)], expected[:20], rtol=1e-6)
    checkpoint.save(tmp_path / "a.bopt", run)
    going_on = [float(step()) for _ in range(4)]
    other, again = begin(seed=5)
    checkpoint.restore(tmp_path / "a.bopt", other)

    assert [float(again()) for _ in range(4)] == going_on
    averages = other["rest"].state.value["layers"][1]
    np.testing.assert_allclose(averages["var"], model.layers[1].var[...], rtol=1e-5)


def test_a_state_with_more_than_parameters_is_refused():
    """Averages would have been decayed, and what the model changes been lost."""
    from flax import nnx

    text = r"1\.mean[\s\S]*2\.rngs\.count[\s\S]*Param, \.\.\."
    with pytest.raises(HostError, match=text):
        bo.attach(nnx.split(make())[1])


def test_what_is_stored_is_trained_whatever_is_made_of_it():
    """So `nnx.Optimizer` does, which writes past a `get_value` of the user's."""
    from flax import nnx

    if not hasattr(nnx.Variable, "get_value"):
        pytest.skip("this flax has no get_value")

    class Positive(nnx.Param):
        def get_value(self, **options):
            return jnp.exp(super().get_value(**options))

    def build():
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        model.scale = Positive(jnp.zeros(2))
        return model

    gradient = nnx.grad(lambda m: ((m(X) * m.scale.get_value() - 1.0) ** 2).mean())
    theirs, ours = build(), build()
    optimizer = nnx.Optimizer(theirs, optax.sgd(0.1), wrt=nnx.Param)
    opt = bo.optim.SGD(0.1, ours)
    for _ in range(3):
        optimizer.update(theirs, gradient(theirs))
        opt.update(gradient(ours))

    expected = jax.tree.leaves(nnx.state(theirs))
    for leaf, other in zip(jax.tree.leaves(nnx.state(ours)), expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-6)


def test_a_parameter_may_hold_a_tree():
    from flax import nnx

    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    model.extra = nnx.Param({"a": jnp.ones(2), "b": [jnp.zeros(1)]})
    opt = bo.optim.SGD(0.5, model)

    opt.update(nnx.grad(lambda m: m.extra["a"].sum() + m.extra["b"][0].sum())(model))

    assert model.extra["a"].tolist() == [0.5, 0.5]
    assert model.extra["b"][0].tolist() == [-0.5]


def test_a_parameter_of_nothing_is_left_alone():
    from flax import nnx

    class Scale(nnx.Module):
        def __init__(self):
            self.w, self.b = nnx.Param(jnp.ones(3)), nnx.Param(None)

    model = Scale()
    opt = bo.optim.SGD(0.5, model)

    opt.update(nnx.grad(lambda m: m.w[...].sum())(model))

    assert list(opt.vars_to_train) == ["w"]
    assert model.w[...].tolist() == [0.5, 0.5, 0.5]


def test_boxes_of_linen_are_no_part_of_a_path():
    from flax import linen as nn

    start = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    layer = nn.Dense(2, use_bias=False, kernel_init=start)
    net = bo.attach(layer.init(jax.random.key(0), X)["params"])
    opt = bo.optim.SGD(0.5, net)

    opt.update(jax.grad(lambda p: layer.apply({"params": p}, X[:1]).sum())(net.model))

    expected = 1.0 - 0.5 * np.stack([X[0], X[0]], 1)
    np.testing.assert_allclose(net["kernel"].value, expected, rtol=1e-6)
