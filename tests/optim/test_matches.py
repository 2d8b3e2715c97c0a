# SPDX-License-Identifier: Apache-2.0
"""Eager gradients that come again are matched as the first ones were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo


def _trained(keys="abc"):
    variables = {key: bo.TrainVar(jnp.zeros(2)) for key in keys}
    return variables, bo.optim.SGD(1.0, variables)


def _grads(**values):
    return {key: jnp.full(2, value) for key, value in values.items()}


def _values(variables):
    return {key: float(v.value[0]) for key, v in variables.items()}


def test_gradients_in_another_order_go_by_name():
    variables, opt = _trained()
    opt.update(_grads(a=1.0, b=2.0, c=3.0))
    opt.update(_grads(a=1.0, b=2.0, c=3.0))
    opt.update(_grads(c=3.0, a=1.0, b=2.0))
    opt.update(_grads(c=3.0, a=1.0, b=2.0))
    assert _values(variables) == {"a": -4.0, "b": -8.0, "c": -12.0}


def test_one_array_for_two_variables_says_nothing_of_the_next_arrays():
    variables, opt = _trained("ab")
    shared = jnp.ones(2)
    opt.update({"a": shared, "b": shared})
    opt.update(_grads(a=1.0, b=2.0))
    opt.update(_grads(a=1.0, b=2.0))
    assert _values(variables) == {"a": -3.0, "b": -5.0}


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_go_by_place_each_time(kind):
    variables = [bo.TrainVar(jnp.zeros(2)) for _ in range(2)]
    opt = bo.optim.SGD(1.0, variables)
    for _ in range(3):
        opt.update(kind(_grads(a=1.0, b=2.0).values()))
    assert [float(v.value[0]) for v in variables] == [-3.0, -6.0]


MISFITS = {
    "a shape": ({"a": np.ones(3)}, r"a: gradient of shape \(3,\)"),
    "an integer": ({"a": np.ones(2, np.int32)}, "a: gradient of dtype int32"),
    "two at once": ({"a": np.ones(3), "x": np.ones(2)}, "(?s)unexpected: x.*a: grad"),
}


@pytest.mark.parametrize(("change", "words"), MISFITS.values(), ids=MISFITS)
def test_a_misfit_after_gradients_that_fitted_is_refused(change, words):
    variables, opt = _trained()
    opt.update(_grads(a=1.0, b=1.0, c=1.0))
    wrong = _grads(a=1.0, b=1.0, c=1.0) | jax.tree.map(jnp.asarray, change)
    with pytest.raises(bo.errors.GradientError, match=words):
        opt.update(wrong)
    assert _values(variables) == dict.fromkeys("abc", -1.0)
    assert int(opt.step) == 1


def test_a_gradient_of_none_after_gradients_that_fitted_is_skipped():
    variables, opt = _trained("ab")
    opt.update(_grads(a=1.0, b=1.0))
    opt.update({"a": None, **_grads(b=1.0)})
    assert _values(variables) == {"a": -1.0, "b": -2.0}


def test_a_tracer_after_gradients_that_fitted_is_refused():
    _, opt = _trained("ab")
    opt.update(_grads(a=1.0, b=1.0))
    kept = []
    jax.jit(kept.append)(_grads(a=1.0, b=1.0))
    with pytest.raises(bo.errors.GradientError, match="a transform that has ended"):
        opt.update(kept[0])


def test_a_variable_that_is_added_needs_its_gradient():
    _, opt = _trained("ab")
    opt.update(_grads(a=1.0, b=1.0))
    new = bo.TrainVar(jnp.zeros(2))
    opt.register_train_vars({"c": new})
    with pytest.raises(bo.errors.GradientError, match="missing: c"):
        opt.update(_grads(a=1.0, b=1.0))
    opt.update(_grads(a=1.0, b=1.0, c=1.0))
    assert float(new.value[0]) == -1.0


def test_an_eager_step_leaves_the_structure_of_the_optimizer():
    _, opt = _trained("ab")
    before = jax.tree.structure(opt)
    opt.update(_grads(a=1.0, b=1.0))
    assert jax.tree.structure(opt) == before
