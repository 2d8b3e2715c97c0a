# SPDX-License-Identifier: Apache-2.0
"""L-BFGS honours every option of all optimizers, or refuses it by name."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

LBFGS = bo.optim.LBFGS
through = pytest.mark.parametrize(
    "through", ["jit", pytest.param("eager", marks=pytest.mark.long)]
)


def _call(step, through):
    return bo.jit(step)() if through == "jit" else step()


def _bowl(w, sign=1.0):
    return sign * ((w.value - 1) ** 2 * jnp.array([1.0, 100.0])).sum()


REFUSED = {
    "clip_norm": 1.0,
    "clip_value": 1.0,
    "accumulate": 2,
    "groups": [{"match": "*", "lr_mult": 0.5}],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_bends_curvature_is_refused_at_construction(name):
    with pytest.raises(bo.errors.HyperparameterError, match=f"\n  {name}"):
        LBFGS(train_vars=bo.TrainVar([1.0]), **{name: REFUSED[name]})


def test_groups_with_settings_are_refused_too():
    w, v = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    opt = LBFGS(train_vars=[{"params": w}])

    with pytest.raises(bo.errors.HyperparameterError, match="groups"):
        opt.add_param_group({"params": v, "lr": 0.1})
    with pytest.raises(bo.errors.HyperparameterError, match="groups"):
        LBFGS(train_vars=[{"params": w, "lr": 0.1}])

    assert len(opt.vars_to_train) == 1


@pytest.mark.parametrize("name", ["max_iter", "history_size", "max_search"])
@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_counts_start_at_one(name, bad):
    with pytest.raises(bo.errors.HyperparameterError, match=name):
        LBFGS(**{name: bad})


@through
def test_maximize_climbs(through):
    w = bo.TrainVar([3.0, -1.0])
    opt = LBFGS(train_vars=w, maximize=True)

    value = _call(lambda: opt.step(lambda: _bowl(w, -1.0)), through)

    assert float(value) == -404.0
    np.testing.assert_allclose(w.value, 1.0, atol=1e-4)


@through
def test_a_loss_that_is_not_finite_is_skipped_and_counted(through):
    w = bo.TrainVar([-1.0])
    opt = LBFGS(train_vars=w, nonfinite="skip")
    before = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    step = lambda: opt.step(lambda: jnp.log(w.value).sum())  # noqa: E731
    step = bo.jit(step) if through == "jit" else step

    step(), step()

    assert (float(w[0]), int(opt.metrics()["skipped"])) == (-1.0, 2)
    for key, value in opt.state_dict().items():
        if not key.startswith("counters"):
            np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.more
def test_too_many_losses_that_are_not_finite_raise():
    w = bo.TrainVar([-1.0])
    opt = LBFGS(train_vars=w, nonfinite="raise", max_nonfinite=2)
    step = lambda: opt.step(lambda: jnp.log(w.value).sum())  # noqa: E731

    step()
    with pytest.raises(bo.errors.GradientError, match="2 times in a row"):
        step()

    assert (int(opt.step), float(w[0])) == (0, -1.0)


@through
def test_norms_are_noted(through):
    w = bo.TrainVar([3.0, -1.0])
    opt = LBFGS(train_vars=w, monitor=True)

    _call(lambda: opt.step(lambda: _bowl(w)), through)

    found = {k: float(v) for k, v in opt.metrics().items()}
    assert found["grad_norm"] == pytest.approx(np.hypot(4, 400))
    assert found["param_norm"] == pytest.approx(np.hypot(3, 1))
    assert found["update_norm"] == pytest.approx(np.hypot(2, 2), rel=1e-4)


@through
@pytest.mark.parametrize("precision", ["plain", "master", "kahan", "stochastic"])
def test_narrow_weights_keep_what_their_precision_promises(precision, through):
    w = bo.TrainVar(jnp.array([3.0, -1.0], jnp.bfloat16))
    opt = LBFGS(train_vars=w, precision=precision)
    scale = jnp.array([1.0, 10.0])

    def loss():
        return ((w.value.astype(jnp.float32) - 1.003) ** 2 * scale).sum()

    step = lambda: opt.step(loss)  # noqa: E731
    step = bo.jit(step) if through == "jit" else step
    step(), step()

    slots = opt.slots["param"]
    kept = {"master": ["master"], "kahan": ["residual"]}.get(precision, [])
    assert list(slots) == kept
    assert w.value.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(w.value, float), 1.0, atol=2**-6)
    if precision == "master":
        narrow = slots["master"].value.astype(jnp.bfloat16)
        np.testing.assert_array_equal(narrow, w.value)


@pytest.mark.more
def test_hooks_after_a_step_run_and_hooks_before_are_refused():
    w, seen = bo.TrainVar([3.0, -1.0]), []
    opt = LBFGS(train_vars=w)
    opt.after_update(lambda opt: seen.append(int(opt.step)))
    opt.step(lambda: _bowl(w))
    remove = opt.before_update(lambda opt, g: None)
    before = w.value

    with pytest.raises(bo.errors.HyperparameterError, match="hook"):
        opt.step(lambda: _bowl(w))
    assert w.value is before
    remove()
    opt.step(lambda: _bowl(w))

    assert seen == [1, 2]


def test_none_is_refused_and_changes_nothing():
    a, b = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    opt = LBFGS(train_vars={"a": a, "b": b})
    opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})
    before = opt.state_dict()

    for call in (opt.update, opt.check_grads, bo.jit(opt.update)):
        with pytest.raises(bo.errors.GradientError, match=r"these are None:\n  a\n"):
            call({"a": None, "b": jnp.ones(1)})
    with pytest.raises(bo.errors.GradientError, match="these are None"):
        params = {"a": jnp.ones(1), "b": jnp.ones(1)}
        opt.apply(params, opt.init(params), {"a": None, "b": jnp.ones(1)})

    after = opt.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[k], after[k]) for k in before)


def _learn_two(opt, variables):
    for t in (3.0, 1.0):
        opt.update({k: jnp.full(1, t + i) for i, k in enumerate(variables)})


@pytest.mark.more
@pytest.mark.parametrize("change", ["freeze", "unfreeze", "add"])
def test_curvature_starts_anew_when_other_variables_train(change):
    variables = {k: bo.TrainVar([1.0]) for k in "ab"}
    opt = LBFGS(0.1, variables)
    if change == "unfreeze":
        opt.freeze("a")
    _learn_two(opt, variables)
    assert int(opt.slots[""]["count"]) == 1

    if change == "add":
        opt.register_train_vars({**variables, "c": bo.TrainVar([1.0])})
    elif change == "freeze":
        opt.freeze("a")
    else:
        opt.unfreeze()

    assert int(opt.slots[""]["count"]) == -1
    pairs = [v.value for name, v in opt.slots[""].items() if "history" in name]
    assert pairs and not any(np.asarray(pair).any() for pair in pairs)
    a = float(variables["a"][0])
    opt.update({k: jnp.ones(1) for k in opt.vars_to_train})
    # The first step along the plain gradient, and of no frozen variable.
    assert float(variables["a"][0]) == pytest.approx(a - 0.1 * (change != "freeze"))


def test_registering_again_keeps_the_curvature():
    variables = {k: bo.TrainVar([1.0]) for k in "ab"}
    opt = LBFGS(0.1, variables)
    _learn_two(opt, variables)

    opt.register_train_vars(variables)

    assert int(opt.slots[""]["count"]) == 1


def test_complex_variables_are_refused_and_leave_nothing_behind():
    opt = LBFGS(train_vars={"w": bo.TrainVar([1.0])})

    with pytest.raises(bo.errors.VariableError, match="real"):
        opt.register_train_vars({"z": bo.TrainVar(jnp.array([1j]))})

    assert list(opt.vars_to_train) == ["w"]
    assert list(opt.slots) == ["w", ""]


@pytest.mark.more
def test_a_compiled_line_search_follows_what_is_frozen_and_hooked():
    variables = {k: bo.TrainVar([2.0]) for k in "ab"}
    opt = LBFGS(0.1, variables)
    step = bo.jit(
        lambda: opt.step(lambda: sum((v.value**2).sum() for v in variables.values()))
    )
    step()
    a, b = (float(v[0]) for v in variables.values())

    opt.freeze("a")
    step()
    assert float(variables["a"][0]) == a and float(variables["b"][0]) < b
    opt.before_update(lambda opt, grads: grads)
    with pytest.raises(bo.errors.HyperparameterError, match="A hook before"):
        step()


@pytest.mark.more
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6, 1e10])
def test_the_unit_of_the_loss_does_not_matter(unit):
    bends, goal = jnp.geomspace(1.0, 100.0, 20), jnp.sin(jnp.arange(20.0))
    w = bo.TrainVar(jnp.zeros(20))
    opt = LBFGS(train_vars=w, max_iter=30, tolerance_grad=0.0)

    opt.step(lambda: unit * (bends * (w.value - goal) ** 2).sum())

    np.testing.assert_allclose(w.value, goal, atol=2e-2)


def _learned(names):
    net = bo.Node()
    for name in names:
        setattr(net, name, bo.TrainVar(jnp.full(2, float(ord(name)))))
    opt = LBFGS(0.1, net)
    for i in range(3):
        opt.update({name: net.vars()[name].value * (i + ord(name)) for name in names})
    return opt


@pytest.mark.more
def test_the_curvature_is_found_by_name():
    saved, other = _learned("ab"), _learned("ba")
    other.load_state_dict(saved.state_dict())

    assert {k: v.tolist() for k, v in other.state_dict().items()} == {
        k: v.tolist() for k, v in saved.state_dict().items()
    }
    with pytest.raises(bo.errors.StateDictError, match=r"s_history\.c: the curvature"):
        _learned("abc").load_state_dict(saved.state_dict())


@pytest.mark.more
def test_curvature_of_a_run_in_which_others_trained_is_refused():
    saved, other = _learned("ab"), _learned("ab")
    saved.freeze("b")

    with pytest.raises(bo.errors.StateDictError, match=r"y_history\.b: the curvature"):
        other.load_state_dict(saved.state_dict())


@pytest.mark.parametrize("line_search", [True, False])
def test_a_variable_without_elements_is_no_error(line_search):
    w = bo.TrainVar(jnp.ones((0, 3)))
    opt = LBFGS(train_vars=w, line_search=line_search)

    assert float(opt.step(lambda: w.value.sum())) == 0.0
    opt.update(jnp.ones((0, 3)))

    assert (w.value.shape, int(opt.step)) == ((0, 3), 2)
