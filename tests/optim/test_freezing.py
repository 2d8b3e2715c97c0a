# SPDX-License-Identifier: Apache-2.0
"""Freezing by name: before there are variables, in groups, in the functional core."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim
Bad = bo.errors.HyperparameterError
ONES = {"a": jnp.ones(1), "b": jnp.ones(1)}


def _by_rule():
    return optim.AdamW(0.1, groups=[{"match": "a", "frozen": True}])


def _by_call():
    opt = optim.AdamW(0.1)
    assert opt.freeze("a") == []
    return opt


def _by_object(opt):
    variables = {k: bo.TrainVar(v) for k, v in ONES.items()}
    opt.register_train_vars(variables)
    assert opt.frozen == ("a",)
    bo.jit(opt.update)({"b": jnp.ones(1)})
    return {k: v.value for k, v in variables.items()}


def _by_core(opt):
    return jax.jit(opt.apply)(ONES, opt.init(ONES), ONES)[0]


def _by_optax(opt):
    tx = opt.as_optax()
    updates, _ = tx.update(ONES, tx.init(ONES), ONES)
    return jax.tree.map(jnp.add, ONES, updates)


@pytest.mark.parametrize("way", [_by_object, _by_core, _by_optax])
@pytest.mark.parametrize("make", [_by_rule, _by_call])
def test_a_frozen_parameter_stays(make, way):
    found = way(make())

    assert found["a"].tolist() == [1.0]
    np.testing.assert_allclose(found["b"], 1 - 0.1 - 0.1 * 0.01, rtol=1e-6)


def test_what_a_group_freezes_may_be_unfrozen():
    variables = {k: bo.TrainVar(v) for k, v in ONES.items()}
    groups = [{"params": {"a": variables["a"]}, "frozen": True}]
    opt = optim.SGD(0.1, [*groups, {"params": {"b": variables["b"]}}])

    opt.update(ONES)
    assert opt.frozen == ("a",) and "frozen" in opt.explain("a")
    opt.unfreeze("a")
    opt.update(ONES)

    found = [float(v[0]) for v in variables.values()]
    np.testing.assert_allclose(found, [0.9, 0.8], rtol=1e-6)


def test_an_early_freeze_is_taken_back_and_checked_once_there_are_variables():
    opt = _by_call()
    opt.unfreeze("a")
    opt.register_train_vars({k: bo.TrainVar(v) for k, v in ONES.items()})

    assert opt.frozen == ()
    with pytest.raises(bo.errors.PathError, match="c"):
        opt.freeze("c")


def test_the_last_word_before_there_are_variables_counts():
    opt = optim.SGD(0.1, groups=[{"match": "a", "frozen": True}])
    opt.freeze()
    opt.unfreeze("a")
    opt.register_train_vars({k: bo.TrainVar(v) for k, v in ONES.items()})

    assert opt.frozen == tuple(sorted({*ONES} - {"a"}))


@pytest.mark.parametrize("way", ["freeze", "rule", "init"])
def test_what_fits_no_variable_is_told_at_the_first_step(way):
    rules = [{"match": "wieght", "frozen": True}] if way == "rule" else ()
    opt = optim.SGD(0.1, groups=rules)
    if way != "rule":
        opt.freeze("wieght")
    if way != "init":
        opt.register_train_vars({k: bo.TrainVar(v) for k, v in ONES.items()})

    with pytest.warns(bo.errors.SelectionWarning, match="wieght") as seen:
        opt.init(ONES) if way == "init" else opt.update(ONES)
    if way != "init":
        opt.update(ONES)  # told once

    assert seen[0].filename == __file__


def test_a_frozen_parameter_stays_in_a_window():
    opt = optim.AdamW(0.1, groups=[{"match": "a", "frozen": True}], accumulate=2)
    apply, held = jax.jit(opt.apply), (ONES, opt.init(ONES))

    for _ in range(2):
        held = apply(*held, ONES)

    assert held[0]["a"].tolist() == [1.0] and float(held[0]["b"][0]) < 0.91


def test_frozen_is_true_or_false():
    with pytest.raises(Bad, match="frozen='yes'"):
        optim.SGD(0.1, groups=[{"match": "a", "frozen": "yes"}])
