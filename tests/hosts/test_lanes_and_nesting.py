# SPDX-License-Identifier: Apache-2.0
"""States of brainstate and brainpy in lanes of `vmap`, and in nested transforms."""

import inspect
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts("brainpy", "brainstate")

XS = jnp.arange(3.0)


def _state(value):
    import brainstate

    return brainstate.ShortTermState(value)


def _variable(value):
    import brainpy.math as bm

    return bm.Variable(value)


KINDS = {
    "brainstate": _state,
    "brainpy": _variable,
    "brainopt": bo.Variable,
}


def _model(make):
    """Return a model of the framework with one state of shape (3,)."""
    if make is _state:
        import brainstate

        class Model(brainstate.nn.Module):
            def __init__(self):
                super().__init__()
                self.s = make(jnp.ones(3))
    elif make is _variable:
        import brainpy as bp

        class Model(bp.DynamicalSystem):
            def __init__(self):
                super().__init__()
                self.s = make(jnp.ones(3))
    else:

        class Model(bo.Node):
            def __init__(self):
                self.s = make(jnp.ones(3))

    return Model()


GIVEN = {
    "state": lambda model: {model.s: 0},
    "list of pairs": lambda model: [([model.s], 0)],
    "model": lambda model: {model: 0},
    "dict": lambda model: [({"s": model.s}, 0)],
    "kind": lambda model: {type(model.s): 0},
}


@pytest.mark.parametrize("way", [lambda f: f, bo.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_split_over_lanes_however_it_is_given(kind, given, way):
    model = _model(KINDS[kind])

    def lane(x):
        model.s.value = model.s.value * x
        return model.s.value

    out = way(bo.vmap(lane, axes=GIVEN[given](model)))(XS)
    assert out.tolist() == model.s.value.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("kind", ["brainstate", "brainpy"])
def test_an_attached_model_and_its_base_kind_are_taken_too(kind):

    for given in (lambda m: {bo.attach(m): 0}, lambda m: {type(m.s).__mro__[1]: 0}):
        model = _model(KINDS[kind])

        def lane(x, model=model):
            model.s.value = model.s.value * x

        bo.vmap(lane, axes=given(model))(XS)
        assert model.s.value.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_discards_states(kind):
    model = _model(KINDS[kind])

    def lane(x):
        model.s.value = x * jnp.ones(3)
        return model.s.value.sum()

    assert bo.vmap(lane, discard=model)(XS).tolist() == [0.0, 3.0, 6.0]
    assert model.s.value.tolist() == [1.0, 1.0, 1.0]


def _gradient(f):
    def run(x):
        return bo.grad(lambda y: f(x) + 0.0 * y, return_value=True)(1.0)[1]

    return run


LAYERS = {
    "jit": bo.jit,
    "for_loop": lambda f: lambda x: bo.for_loop(f, x[None])[0],
    "scan": lambda f: lambda x: bo.scan(lambda c, y: (c, f(y)), 0.0, x[None])[1][0],
    "while_loop": lambda f: lambda x: bo.while_loop(
        lambda i, y: (i + 1, f(y)), lambda i, y: i < 1, (0, x))[1],
    "cond": lambda f: lambda x: bo.cond(True, f, lambda x: x, x),
    "grad": _gradient,
}  # fmt: skip


@pytest.mark.parametrize("reads", [False, True], ids=["writes", "reads"])
@pytest.mark.parametrize("kind", ["brainstate", "brainpy"])
def test_every_nesting_of_depth_three_is_right_at_the_first_call(kind, reads):
    for names in itertools.product(LAYERS, LAYERS, LAYERS):
        if "jit" not in names:
            continue
        state = KINDS[kind](jnp.array(2.0))

        def body(x, state=state):
            if reads:
                return state.value * x
            state.value = state.value * x
            return state.value

        run = body
        for name in reversed(names):
            run = LAYERS[name](run)
        found = [float(run(jnp.array(3.0))) for _ in range(2)]
        assert found == ([6.0, 6.0] if reads else [6.0, 18.0]), names
        assert float(state.value) == (2.0 if reads else 18.0), names


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_compiled_method_of_a_dynamical_system_is_one(method):
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.l = bp.dnn.Dense(3, 1, mode=bm.training_mode)

        def plain(self, x):
            return self.l(x)

    setattr(Net, method, bo.jit(Net.plain))
    net = Net()
    x = jnp.ones((2, 3))
    np.testing.assert_allclose(getattr(net, method)(x), net.plain(x), rtol=1e-6)
    if method == "update":
        np.testing.assert_allclose(net(x), net.plain(x), rtol=1e-6)
    bound = getattr(net, method)
    if method != "update":  # which brainpy wraps itself
        assert str(inspect.signature(bound)) == "(x)"
        assert bound.__self__ is net
