# SPDX-License-Identifier: Apache-2.0
"""From optax and to optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import problem

TXS = {
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01)),
    "schedule": optax.sgd(optax.linear_schedule(0.1, 0.0, 10), momentum=0.9),
    "inject": optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
    "masked": optax.masked(optax.adam(0.01), {"W": True, "b": False}),
    "ademamix": optax.contrib.ademamix(0.01),
    "multi steps": optax.MultiSteps(optax.adam(0.01), 2),
}


@pytest.mark.parametrize("kind", TXS)
def test_any_transformation_becomes_a_node(kind):
    tx, (params, grads) = TXS[kind], problem(4, dtype=np.float32)
    variables = {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}
    opt = bo.optim.Optax(tx, variables)
    step = bo.jit(opt.update)
    state = tx.init(params)

    for g in grads:
        g = jax.tree.map(jnp.asarray, g)
        step(g)
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)

    for key, variable in variables.items():
        np.testing.assert_allclose(variable.value, params[key], rtol=1e-6, atol=1e-7)
    assert len(opt.slots[""]) == len(jax.tree.leaves(state))


def test_the_state_has_names():
    w = bo.TrainVar((2,))

    opt = bo.optim.Optax(optax.adam(0.1), {"layer": {"W": w}})

    assert "slots.0.mu.layer.W" in opt.state_dict()


def test_late_variables_keep_the_old_moments():
    a, b = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    opt = bo.optim.Optax(optax.adam(0.1), {"a": a})
    opt.update({"a": jnp.ones(1)})
    held = np.asarray(opt.slots[""]["0.mu.a"].value)

    opt.register_train_vars({"b": b})

    np.testing.assert_array_equal(opt.slots[""]["0.mu.a"].value, held)
    opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})
    assert float(b[0]) < 1


@pytest.mark.parametrize("cls", [bo.optim.AdamW, bo.optim.Lion])
def test_an_optimizer_is_a_transformation(cls):
    params, grads = problem(5, dtype=np.float32)
    variables = {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}
    opt = cls(0.01, variables)
    tx = optax.chain(optax.clip_by_global_norm(1.0), cls(0.01).as_optax())
    state = tx.init(params)

    for g in grads:
        g = jax.tree.map(jnp.asarray, g)
        opt.update(bo.optim.clip_by_global_norm(g, 1.0))
        updates, state = jax.jit(tx.update)(g, state, params)
        params = optax.apply_updates(params, updates)

    assert isinstance(cls(0.01).as_optax(), optax.GradientTransformation)
    for key, variable in variables.items():
        np.testing.assert_allclose(variable.value, params[key], rtol=1e-5, atol=1e-6)


def test_a_transformation_needs_the_parameters():
    tx = bo.optim.AdamW(0.1).as_optax()
    state = tx.init({"a": jnp.ones(1)})

    with pytest.raises(ValueError, match="parameters"):
        tx.update({"a": jnp.ones(1)}, state)
