# SPDX-License-Identifier: Apache-2.0
"""The functional core inside transforms of jax, and the trees it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt.errors import (
    GradientError,
    StateDictError,
    TraceContextError,
    VariableError,
)


def test_rates_are_mapped_over_whole_trainings():
    """An optimizer made inside jax.vmap had refused to step in a jax.lax.scan."""

    def train(make):
        def of(rate):
            init, update = make(rate)
            params = jnp.array([1.0, -2.0])

            def body(carry, _):
                params, state = carry
                return update(params, state, params**2 - 1.5), None

            return jax.lax.scan(body, (params, init(params)), None, length=5)[0][0]

        return jax.jit(jax.vmap(of))(jnp.array([1e-2, 1e-1]))

    def ours(rate):
        opt = bo.optim.AdamW(rate, dialect="optax")
        return opt.init, opt.apply

    def theirs(rate):
        tx = optax.adamw(rate, weight_decay=1e-2)

        def update(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return params + updates, state

        return tx.init, update

    np.testing.assert_allclose(train(ours), train(theirs), rtol=1e-6)


@pytest.mark.parametrize("outer", [jax.jit, jax.grad])
def test_a_variable_made_inside_a_plain_transform_says_what_it_lacks(outer):
    def inside(x):
        v = bo.Variable(x)
        return bo.jit(lambda: v.value + 1)()

    says = r"by a transform inside it[\s\S]*bo\.vmap"
    with pytest.raises(TraceContextError, match=says):
        outer(inside)(1.0)


def test_paths_that_two_parameters_have_are_named():
    tree = {"a.b": jnp.ones(2), "a": {"b": jnp.ones(1)}, "c": jnp.ones(1)}

    with pytest.raises(StateDictError, match=r"same path:\n  a\.b\n"):
        bo.optim.Adam(0.1).init(tree)


def test_a_random_key_is_no_parameter():
    with pytest.raises(VariableError, match="key: a PRNGKeyArray"):
        bo.optim.Adam(0.1).init({"w": jnp.ones(2), "key": jax.random.key(0)})


def test_an_integer_takes_no_gradient():
    """A step of 0.1 from 1 had been cut to 0."""
    opt, params = bo.optim.SGD(0.1), {"w": jnp.ones(2), "n": jnp.array(1)}
    state, grad = opt.init(params), jnp.ones(2)

    with pytest.raises(GradientError, match=r"n: a gradient of int32, .* give None"):
        opt.apply(params, state, {"w": grad, "n": jnp.ones(())})

    assert int(opt.apply(params, state, {"w": grad, "n": None})[0]["n"]) == 1


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
@pytest.mark.parametrize("bad", [False, True])
def test_a_gradient_of_none_leaves_its_parameter_alone(nonfinite, bad):
    opt = bo.optim.AdamW(0.1, nonfinite=nonfinite)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = opt.init(params)
    grads = {"a": jnp.full(2, jnp.nan if bad else 1.0), "b": None}
    for _ in range(3):
        params, state = opt.apply(params, state, grads)
    taken = 0 if bad and nonfinite == "skip" else 3
    assert params["b"].tolist() == [1, 1]
    assert int(state["slots"]["b"]["missed_steps"]) == int(state["step"]) == taken


OTHERS = {
    "class": (bo.optim.Momentum(0.1), bo.optim.MomentumNesterov(0.1)),
    "schedule": (
        bo.optim.SGD(bo.optim.ExponentialLR(0.1, 0.9)),
        bo.optim.SGD(bo.optim.MultiplicativeLR(0.1, lambda t: 1.0)),
    ),
    "limit": (bo.optim.SGD(0.1, clip_norm=1.0), bo.optim.SGD(0.1, clip_value=1.0)),
    "rule": (bo.optim.SGD(0.1, groups=[{"match": "w", "lr": 1.0}]), bo.optim.SGD(0.1)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_numbers_of_another_optimizer_are_refused_by_name(other):
    """Vectors of equal length had been taken by their places."""
    made, opt = OTHERS[other]
    params = {"w": jnp.ones(2)}

    with pytest.raises(GradientError, match=r"groups|numbers"):
        opt.apply(params, made.init(params), params)
    with pytest.raises(GradientError, match=r"groups|numbers"):
        made.apply(params, opt.init(params), params)


def test_state_of_a_parameter_that_is_gone_is_refused_by_name():
    opt = bo.optim.Adam(0.1)
    state = opt.init({"w": jnp.ones(2), "gone": jnp.ones(2)})

    with pytest.raises(GradientError, match=r"unexpected: slots\.gone\.m"):
        opt.apply({"w": jnp.ones(2)}, state, {"w": jnp.ones(2)})
