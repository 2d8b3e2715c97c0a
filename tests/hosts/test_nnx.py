# SPDX-License-Identifier: Apache-2.0
"""flax.nnx: the routes that give the right numbers, and refusals for the others."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError, TraceContextError, VariableError

pytestmark = pytest.mark.hosts("flax", "optax")

STEPS = 24
X = jnp.asarray(np.random.RandomState(0).randn(16, 3), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


def make(seed=0):
    """Return a model of two layers."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.l1 = nnx.Linear(3, 8, rngs=rngs)
            self.l2 = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.l2(jnp.tanh(self.l1(x)))

    return Net(nnx.Rngs(seed))


def loss_of(model):
    return ((model(X) - Y) ** 2).mean()


def adamw(train_vars=None):
    return bo.optim.AdamW(1e-2, train_vars, dialect="optax")


@functools.cache
def expected():
    from flax import nnx

    model = make()
    opt = nnx.Optimizer(model, optax.adamw(1e-2, weight_decay=1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, opt):
        value, grads = nnx.value_and_grad(loss_of)(model)
        opt.update(model, grads)
        return value

    return [float(step(model, opt)) for _ in range(STEPS)]


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


def by_an_optimizer_that_is_an_argument():
    from flax import nnx

    model = make()
    params = nnx.state(model, nnx.Param)
    tree, opt = jax.tree.structure(params), adamw(bo.attach(params))

    @nnx.jit
    def step(model, opt):
        value, grads = nnx.value_and_grad(loss_of)(model)
        opt.update(grads)
        nnx.update(model, jax.tree.unflatten(tree, opt.vars_to_train.data()))
        return opt, value

    for _ in range(STEPS):
        opt, value = step(model, opt)
        yield float(value)
    assert int(opt.step) == STEPS


def by_an_nnx_optimizer():
    from flax import nnx

    model = make()
    opt = nnx.Optimizer(model, adamw().as_optax(), wrt=nnx.Param)

    @nnx.jit
    def step(model, opt):
        value, grads = nnx.value_and_grad(loss_of)(model)
        opt.update(model, grads)
        return value

    for _ in range(STEPS):
        yield float(step(model, opt))


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
    assert int(opt.step) == STEPS
    values = [*net.dict().values(), *opt.vars().dict().values()]
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))


ROUTES = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_losses_are_those_of_nnx_with_optax(route):
    np.testing.assert_allclose(list(route()), expected(), rtol=1e-6)


def test_names_are_attribute_paths():
    paths = ["l1.bias", "l1.kernel", "l2.bias", "l2.kernel"]

    assert sorted(bo.attach(make()).train_vars()) == paths


def closing_over(model):
    return lambda: bo.jit(lambda: loss_of(model))()


def as_an_argument(model):
    return lambda: bo.jit(loss_of)(model)


def inside_a_list(model):
    models = [model]
    return lambda: bo.jit(lambda: loss_of(models[0]))()


def through_another_function(model):
    def helper():
        return loss_of(model)

    return lambda: bo.jit(lambda: helper())()


def bound_to_it(model):
    return lambda: bo.jit(model.__call__)(X)


def in_a_nested_argument(model):
    return lambda: bo.jit(lambda held: loss_of(held["models"][0]))({"models": [model]})


def inside_nested_lists(model):
    held = {"models": [model]}
    return lambda: bo.jit(lambda: loss_of(held["models"][0]))()


def as_a_default(model):
    return lambda: bo.jit(lambda model=model: loss_of(model))()


class Holder(bo.Node):
    def __init__(self, model):
        self.model = model

    def __call__(self):
        return loss_of(self.model)

    def inner_loss(self):
        return loss_of(self.model.model)


def in_an_attribute(model):
    holder = Holder(model)
    return lambda: bo.jit(lambda: loss_of(holder.model))()


def in_an_object_that_is_called(model):
    holder = Holder(model)
    return lambda: bo.jit(lambda: holder())()


def in_a_node_itself(model):
    return lambda: bo.jit(Holder(model))()


def in_an_attribute_of_an_attribute(model):
    holder = Holder(Holder(model))
    return lambda: bo.jit(holder.inner_loss)()


def in_a_module(model):
    module = types.ModuleType("experiment")
    module.net = model
    return lambda: bo.jit(lambda: loss_of(module.net))()


WAYS = [in_an_attribute_of_an_attribute, in_a_module]
WAYS += [in_a_nested_argument, inside_nested_lists, as_a_default, in_an_attribute]
WAYS += [in_an_object_that_is_called, in_a_node_itself]
WAYS += [closing_over, as_an_argument, inside_a_list, through_another_function]


@pytest.mark.parametrize("use", [*WAYS, bound_to_it], ids=lambda f: f.__name__)
def test_bo_jit_around_a_model_is_refused_with_the_mend(use):
    with pytest.raises(HostError, match=r"opt\.apply\(params, state, grads\)"):
        use(make())()


def test_bo_grad_by_a_model_is_refused_with_the_mend():
    model = make()

    with pytest.raises(TraceContextError, match=r"nnx\.state\(model, nnx\.Param\)"):
        bo.grad(lambda: loss_of(model), model)()


def test_an_update_inside_nnx_jit_is_refused():
    from flax import nnx

    model = make()
    opt = adamw(model)
    before = np.asarray(model.l1.kernel[...])

    with pytest.raises(TraceContextError, match=r"nnx\.update\(model, params\)"):
        nnx.jit(lambda g: opt.update(g))(nnx.grad(loss_of)(model))

    np.testing.assert_array_equal(model.l1.kernel[...], before)
    assert int(opt.step) == 0


def test_a_model_is_saved_and_restored(tmp_path):
    model, other = make(), make(seed=4)
    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(model)})

    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(other)})

    np.testing.assert_array_equal(other.l1.kernel[...], model.l1.kernel[...])


def test_a_model_with_dropout_resumes_bit_for_bit(tmp_path):
    from flax import nnx

    def begin(seed):
        rngs = nnx.Rngs(seed)
        net = nnx.Sequential(
            nnx.Linear(3, 8, rngs=rngs),
            nnx.Dropout(0.5, rngs=rngs),
            nnx.Linear(8, 1, rngs=rngs),
        )
        opt = adamw(net)
        gradient = nnx.jit(nnx.value_and_grad(loss_of))

        def step():
            value, grads = gradient(net)
            opt.update(grads)
            return float(value)

        return {"net": bo.attach(net), "opt": opt}, step

    run, step = begin(seed=0)
    for _ in range(3):
        step()
    checkpoint.save(tmp_path / "a.bopt", run)
    going_on = [step() for _ in range(5)]

    run, step = begin(seed=8)
    step()
    checkpoint.restore(tmp_path / "a.bopt", run)

    assert [step() for _ in range(5)] == going_on
    assert int(run["opt"].step) == 8


model = make  # a global whose name is an attribute below


def test_an_attribute_of_the_name_of_a_model_is_no_model(monkeypatch):
    monkeypatch.setitem(globals(), "model", make())
    net = bo.attach({"w": jnp.ones(2)})

    assert float(bo.jit(lambda: net.model["w"].sum())()) == 2.0


def test_a_list_that_holds_itself_is_no_obstacle():
    pytest.importorskip("flax.nnx")
    own, v = [1.0], bo.Variable(0.0)
    own.append(own)

    @bo.jit
    def step():
        v.value += own[0]

    step()

    assert float(v) == 1.0


def test_an_optimizer_of_a_model_is_no_argument_of_nnx_jit():
    """Its copy would train copies, and the losses would stand still."""
    from flax import nnx

    model = make()
    opt = adamw(model)

    with pytest.raises(HostError, match=r"Net\.l1\.kernel[\s\S]*opt\.as_optax"):
        nnx.jit(lambda model, opt: opt.update(nnx.grad(loss_of)(model)))(model, opt)

    assert int(opt.step) == 0


def test_a_model_of_one_parameter_takes_the_gradients_of_nnx():
    from flax import nnx

    model = nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.ones((3, 1))
    opt = bo.optim.SGD(0.5, model)

    opt.update(nnx.grad(lambda model: model(jnp.ones((1, 3))).sum())(model))

    assert model.kernel[...].tolist() == [[0.5], [0.5], [0.5]]


def test_what_holds_variables_of_nnx_and_is_no_module_is_restored(tmp_path):
    from flax import nnx

    rngs = nnx.Rngs(0)
    checkpoint.save(tmp_path / "a.bopt", {"rngs": bo.attach(rngs)})
    drawn = rngs.normal((2,))

    checkpoint.restore(tmp_path / "a.bopt", {"rngs": bo.attach(rngs)})

    np.testing.assert_array_equal(rngs.normal((2,)), drawn)


def test_several_models_are_attached_one_by_one():
    with pytest.raises(HostError, match="holds Variables"):
        bo.attach({"a": make(), "b": make()})


def test_a_model_without_values_cannot_be_trained():
    from flax import nnx

    with pytest.raises(VariableError, match=r"l1\.bias: ShapeDtypeStruct"):
        adamw(nnx.eval_shape(make))
