# SPDX-License-Identifier: Apache-2.0
"""An optimizer in the place of an optax transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import each, problem

optim = bo.optim
PARAMS, GRADS = problem(3, dtype=np.float32)
PARAMS = {k: jnp.asarray(v) for k, v in PARAMS.items()}


def _run(tx, params, steps=3, jit=True):
    update, state = jax.jit(tx.update) if jit else tx.update, tx.init(params)
    for g in GRADS[:steps]:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


EQUAL = {
    "sgd": (lambda: optim.SGD(0.1), lambda: optax.sgd(0.1)),
    "momentum": (lambda: optim.SGD(0.1, momentum=0.9), lambda: optax.sgd(0.1, 0.9)),
    "adam": (
        lambda: optim.AdamW(0.01, dialect="optax", weight_decay=0.0),
        lambda: optax.adam(0.01),
    ),
    "adamw": (
        lambda: optim.AdamW(0.01, dialect="optax", weight_decay=1e-4),
        lambda: optax.adamw(0.01),
    ),
    "lion": (
        lambda: optim.Lion(0.01, weight_decay=1e-3),
        lambda: optax.lion(0.01),
    ),
}


@pytest.mark.parametrize("kind", EQUAL)
def test_updates_are_equal_to_the_bit(kind):
    ours, theirs = (make() for make in EQUAL[kind])

    found, _ = _run(ours.as_optax(), PARAMS)
    expected, _ = _run(theirs, PARAMS)

    for key in PARAMS:
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


@each(few=True, whole=False)
@pytest.mark.parametrize(
    "settings",
    [
        {"groups": [{"match": "W", "bounds": (-0.5, 0.5)}]},
        pytest.param({}, marks=pytest.mark.long),
    ],
    ids=["bounds", "free"],
)
def test_updates_are_those_of_the_functional_core(member, settings):
    opt = member.make(**settings)
    params, state, apply = PARAMS, opt.init(PARAMS), jax.jit(opt.apply)

    found, _ = _run(opt.as_optax(), PARAMS)
    for g in GRADS:
        params, state = apply(params, state, g)

    for key in PARAMS:
        np.testing.assert_allclose(found[key], params[key], rtol=2e-4, atol=2e-5)


def _alone(opt, grads):
    tx = opt.as_optax()
    return tx.update(grads, tx.init(PARAMS))[0]


@pytest.mark.more
def test_a_rule_without_decay_needs_no_parameters():
    opt, tx = optim.Adam(0.01), optax.adam(0.01)

    found = _alone(opt, GRADS[0])

    expected, _ = tx.update(GRADS[0], tx.init(PARAMS))
    for key in PARAMS:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5)


NEEDS = {
    "weight_decay": lambda: optim.AdamW(0.1),
    "the rule itself": lambda: optim.Lamb(0.1),
    "lower": lambda: optim.SGD(0.1, groups=[{"match": "W", "bounds": (0.0, None)}]),
    "sign": lambda: optim.SGD(0.1, groups=[{"match": "W", "sign": 1}]),
    "precision='master'": lambda: optim.SGD(0.1, precision="master"),
}


@pytest.mark.parametrize("reason", NEEDS)
def test_an_update_says_for_what_it_needs_the_parameters(reason):
    with pytest.raises(ValueError, match=f"(?s)needs the parameters.*{reason}"):
        _alone(NEEDS[reason](), GRADS[0])


def test_a_decay_in_the_state_alone_is_not_left_out_silently():
    tx = optim.AdamW(0.1, weight_decay=0.0).as_optax()
    state = tx.init(PARAMS)
    numbers = "groups.default.numbers"
    state[numbers] = optim.AdamW(0.1, weight_decay=0.5).init(PARAMS)[numbers]

    updates, _ = tx.update(GRADS[0], state)

    assert np.isnan(updates["W"]).all()


def test_leaves_that_are_no_arrays_are_left_alone():
    tx = optim.AdamW(0.1, weight_decay=0.1).as_optax()
    params = {**PARAMS, "activation": jnp.tanh, "name": "net"}
    grads = {**GRADS[0], "activation": None, "name": None}

    updates, state = tx.update(grads, tx.init(params), params, value=1.0, extra=2)

    alone, _ = tx.update(GRADS[0], tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["W"], alone["W"])
    assert updates["activation"] is None and updates["name"] is None
    assert int(state["step"]) == 1


@each(few=True)
def test_the_trees_of_the_state_are_found_by_optax(member):
    tx = member.make().as_optax()
    state = tx.init(PARAMS)

    if member.whole:
        assert "shared" in state
        return
    mapped = optax.tree_map_params(
        tx,
        lambda held, name: None if held is None else name,
        state,
        {"W": "W", "b": "b"},
        is_leaf=lambda held: held is None,
    )

    trees = mapped["slots"]
    kept = {n: {k: v for k, v in t.items() if v is not None} for n, t in trees.items()}
    assert any(kept.values()) or not trees
    assert all(k == v for tree in kept.values() for k, v in tree.items())
    assert mapped["step"] is state["step"]
