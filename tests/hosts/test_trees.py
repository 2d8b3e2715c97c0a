# SPDX-License-Identifier: Apache-2.0
"""Models that are pytrees: dicts, equinox, haiku, jaxley."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError, VariableError

STEPS = 24
X = jnp.asarray(np.random.RandomState(0).randn(16, 3), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


def by_optax(params, loss, steps=STEPS):
    tx = optax.adamw(1e-2, weight_decay=1e-2)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    losses, state = [], tx.init(params)
    for _ in range(steps):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses


def attached(model, loss, steps=STEPS):
    net = bo.attach(model)
    opt = bo.optim.AdamW(1e-2, net, dialect="optax")
    gradient = bo.grad(lambda: loss(net.model), net, return_value=True)

    @bo.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    losses = [float(step()) for _ in range(steps)]
    assert int(opt.step) == steps
    values = [*net.dict().values(), *opt.vars().dict().values()]
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))
    return losses


def functional(params, loss, steps=STEPS):
    opt = bo.optim.AdamW(1e-2, dialect="optax")

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        return *opt.apply(params, state, grads), value

    losses, state = [], opt.init(params)
    for _ in range(steps):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert int(state["step"]) == steps
    return losses


ROUTES = [attached, functional]


def mlp(params):
    hidden = jnp.tanh(X @ params["in"]["w"] + params["in"]["b"])
    return ((hidden @ params["out"] - Y) ** 2).mean()


def dict_of_arrays():
    draw = np.random.RandomState(2)
    return {
        "in": {"w": jnp.asarray(draw.randn(3, 8), jnp.float32), "b": jnp.zeros((1, 8))},
        "out": jnp.asarray(draw.randn(8, 1), jnp.float32),
    }


@pytest.mark.more
@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_a_dict_trains_as_with_optax(route):
    expected = by_optax(dict_of_arrays(), mlp)

    np.testing.assert_allclose(route(dict_of_arrays(), mlp), expected, rtol=1e-6)


def test_only_arrays_become_variables_and_only_numbers_with_a_slope_train():
    tree = {"w": jnp.ones(2), "n": jnp.arange(3), "key": jax.random.key(0), "p": 0.5}

    net = bo.attach(tree)

    assert list(net) == ["key", "n", "w"]
    assert list(net.train_vars()) == ["w"]
    assert net.model["p"] == 0.5


def test_the_tree_that_was_given_stays_as_it_was():
    tree = {"w": jnp.ones(2)}
    net = bo.attach(tree)
    opt = bo.optim.SGD(0.5, net)

    bo.jit(lambda: opt.update({"w": jnp.ones(2)}))()

    assert tree["w"].tolist() == [1.0, 1.0]
    assert net.model["w"].tolist() == [0.5, 0.5]


def test_a_tree_is_saved_and_restored(tmp_path):
    net = bo.attach(dict_of_arrays())
    checkpoint.save(tmp_path / "a.bopt", {"net": net})
    net["out"].value = jnp.zeros((8, 1))

    checkpoint.restore(tmp_path / "a.bopt", {"net": net})

    np.testing.assert_array_equal(net.model["out"], dict_of_arrays()["out"])


def test_a_tree_without_arrays_is_refused():
    says = r"help: .*get_parameters.*make_trainable.*jnp\.asarray"
    with pytest.raises(HostError, match=says):
        bo.attach({"w": 1.0})


def test_a_number_of_numpy_is_an_array():
    net = bo.attach({"tau": np.float32(3.0), "name": np.array(["a"])})
    opt = bo.optim.SGD(0.5, net)

    opt.update({"tau": jnp.ones(())})

    assert float(net.model["tau"]) == 2.5


class Cell(bo.Node):
    def __init__(self):
        self.w = bo.TrainVar([1.0])


@pytest.mark.parametrize(
    "make", [Cell, lambda: Cell().w, lambda: [Cell()], lambda: Cell().vars()]
)
def test_what_holds_variables_is_not_copied(make):
    """An optimizer of the copies would leave the model as it was."""
    with pytest.raises(HostError, match=r"holds Variables[\s\S]*train_vars= takes it"):
        bo.attach(make())


def test_an_attached_model_is_attached_already():
    net = bo.attach({"w": jnp.ones(2)})

    assert bo.attach(net) is net


def test_a_field_may_be_called_value():
    kind = collections.namedtuple("kind", "value w")
    net = bo.attach({"a": kind(jnp.ones(2), jnp.ones(1))})

    assert list(net) == ["a.value", "a.w"]
    state = bo.optim.Adam(0.1).init({"a": Boxed(jnp.ones(2))})
    assert list(state["slots"]) == ["a.value"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Boxed:
    value: jax.Array


def test_a_pytree_that_is_no_model_is_refused_as_train_vars():
    with pytest.raises(TypeError, match=r"bo\.attach"):
        bo.optim.SGD(0.1, {"w": jnp.ones(2)})


Pair = collections.namedtuple("Pair", "x y")
TREES = {
    "a list of dicts, as of jaxley": lambda a, b: [{"gNa": a}, {"gK": b}],
    "a named tuple": Pair,
    "a tuple in a dict": lambda a, b: {"p": (a, b)},
    "a dataclass in a list": lambda a, b: [Boxed(a), b],
}


@pytest.mark.parametrize("kind", TREES)
def test_an_update_takes_the_gradients_of_jax_in_the_structure_of_the_model(kind):
    net = bo.attach(TREES[kind](jnp.ones(2), jnp.zeros(1)))
    opt = bo.optim.SGD(0.5, net)
    grads = TREES[kind](jnp.array([2.0, 4.0]), jnp.ones(1))

    opt.update(grads)

    expected = TREES[kind](jnp.array([0.0, -1.0]), jnp.array([-0.5]))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), net.model, expected))


def eqx_model():
    import equinox

    return equinox.nn.MLP(3, 1, 8, 2, key=jax.random.key(0))


def eqx_loss(model):
    return ((jax.vmap(model)(X) - Y) ** 2).mean()


@pytest.mark.hosts("equinox")
@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_an_equinox_module_trains_as_with_optax(route):
    import equinox as eqx

    params, static = eqx.partition(eqx_model(), eqx.is_inexact_array)

    def loss(model):
        return eqx_loss(eqx.combine(model, static))

    expected = by_optax(params, loss)
    given = eqx_model() if route is attached else params
    np.testing.assert_allclose(route(given, loss), expected, rtol=1e-6)


@pytest.mark.hosts("equinox")
def test_the_gradients_of_equinox_have_holes_where_nothing_trains():
    import equinox as eqx

    opt = bo.optim.SGD(0.1)
    model = eqx_model()
    state = opt.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(eqx_loss)(model)
        params = eqx.filter(model, eqx.is_inexact_array)
        params, state = opt.apply(params, state, grads)
        return eqx.combine(params, model), state, grads

    stepped, _, grads = step(model, state)

    expected = model.layers[0].weight - 0.1 * grads.layers[0].weight
    np.testing.assert_allclose(stepped.layers[0].weight, expected, rtol=1e-6)


@pytest.mark.hosts("equinox")
def test_names_in_an_equinox_module_are_attribute_paths():
    assert list(bo.attach(eqx_model()))[:2] == ["layers.0.weight", "layers.0.bias"]


@pytest.mark.hosts("haiku")
@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_parameters_of_haiku_train_as_with_optax(route):
    import haiku as hk

    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([8, 1])(x)))
    params = net.init(jax.random.key(0), X)

    def loss(params):
        return ((net.apply(params, X) - Y) ** 2).mean()

    np.testing.assert_allclose(route(params, loss), by_optax(params, loss), rtol=1e-6)


@pytest.mark.hosts("jaxley")
@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_conductances_of_a_jaxley_cell_train_as_with_optax(route):
    import jaxley as jx
    from jaxley.channels import HH

    cell = jx.Cell()
    cell.insert(HH())
    cell.record("v", verbose=False)
    pulse = jx.step_current(
        i_delay=0.5, i_dur=2.0, i_amp=0.01, delta_t=0.025, t_max=3.0
    )
    cell.stimulate(pulse, verbose=False)
    for name in ("HH_gNa", "HH_gK"):
        cell.make_trainable(name, verbose=False)
    params = cell.get_parameters()
    target = jx.integrate(cell, params=params, delta_t=0.025)
    params = jax.tree.map(lambda p: p * 1.3, params)

    def loss(params):
        return ((jx.integrate(cell, params=params, delta_t=0.025) - target) ** 2).mean()

    losses = route(params, loss, 20)

    np.testing.assert_allclose(losses, by_optax(params, loss, 20), rtol=1e-6)
    assert losses[-1] < losses[0]


@pytest.mark.hosts("equinox")
def test_a_whole_equinox_module_is_refused_by_the_functional_core():
    with pytest.raises(VariableError, match=r"activation: a [\s\S]*eqx\.filter"):
        bo.optim.SGD(0.1).init(eqx_model())


def eqx_counter():
    """Return a layer of equinox that adds up its inputs, and its state."""
    import equinox as eqx

    class Sum(eqx.Module):
        index: eqx.nn.StateIndex

        def __init__(self):
            self.index = eqx.nn.StateIndex(jnp.array(0.0))

        def __call__(self, x, state):
            total = state.get(self.index) + x
            return 2 * total, state.set(self.index, total)

    return eqx.nn.make_with_state(Sum)()


EQX_ROUTES = {
    "eager": lambda call, w: (call(w), call(w))[1],
    "jit": lambda call, w: (step := bo.jit(call), step(w), step(w))[2],
    "for_loop": lambda call, w: bo.for_loop(call, jnp.ones(2))[1],
    "grad": lambda call, w: (
        bo.grad(lambda: call(w.value) + 0 * call(w.value), w)(),
        call(0.0),
    )[1],
    "cond": lambda call, w: (bo.cond(w > 0, call, call, 1.0), call(w.value))[1],
    "jit for grad": lambda call, w: bo.jit(
        lambda: bo.for_loop(
            lambda x: bo.grad(lambda: call(x * w.value), w, return_value=True)()[1],
            jnp.ones(2),
        )
    )()[1],
}


@pytest.mark.hosts("equinox")
@pytest.mark.parametrize("route", EQX_ROUTES)
def test_a_state_of_equinox_is_the_value_of_a_variable(route):
    layer, first = eqx_counter()
    state, w = bo.Variable(first), bo.TrainVar(jnp.array(1.0))

    def call(x):
        y, new = layer(jnp.asarray(x), state.value)
        state.value = new
        return y

    assert float(EQX_ROUTES[route](call, w)) == 4.0
    assert float(state.value.get(layer.index)) == 2.0


@pytest.mark.hosts("equinox")
def test_a_model_that_is_not_attached_is_told_to_be():
    import equinox as eqx

    model = eqx.nn.Linear(2, 2, key=jax.random.key(0))

    with pytest.raises(TypeError, match=r"a Linear has no Variables[\s\S]*bo\.attach"):
        bo.optim.SGD(0.1, model)
