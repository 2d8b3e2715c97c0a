# SPDX-License-Identifier: Apache-2.0
"""Groups as torch has them, rules by name, masks."""

import dataclasses
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.runs import encoder, ones

optim = bo.optim
Bad = bo.errors.HyperparameterError


# --- groups as torch has them


def test_a_list_of_group_dicts():
    net = encoder()
    opt = optim.AdamW(
        0.1,
        [
            {
                "params": {"enc": net.enc},
                "lr": 0.01,
                "betas": (0.5, 0.6),
                "amsgrad": True,
            },
            {"params": {"out": net.out}, "weight_decay": 0.5},
        ],
        weight_decay=0.0,
    )

    opt.update(ones(opt))

    first, second = opt.param_groups
    assert (first["lr"], first["betas"], first["amsgrad"]) == (0.01, (0.5, 0.6), True)
    assert (second["lr"], second["weight_decay"]) == (0.1, 0.5)
    assert second["params"] == [net.out.W]
    assert "v_max" in opt.slots["enc.W"] and "v_max" not in opt.slots["out.W"]
    np.testing.assert_allclose(net.out.W.value, 1 - 0.1 * (1 + 0.5), rtol=1e-5)
    np.testing.assert_allclose(net.enc.b.value, 1 - 0.01, rtol=1e-5)


def test_groups_of_lists_get_paths_of_their_own():
    a, b, c = (bo.TrainVar(jnp.ones(1)) for _ in range(3))

    opt = optim.SGD(0.1, [{"params": [a, b]}, {"params": c, "lr": 0.5}])
    opt.update(ones(opt))

    assert list(opt.vars_to_train) == ["0.0", "0.1", "1.0"]
    np.testing.assert_allclose([a[0], b[0], c[0]], [0.9, 0.9, 0.5], rtol=1e-6)


def test_a_group_may_be_added_later():
    net = encoder()
    opt = optim.AdamW(0.1, {"enc": net.enc}, weight_decay=0.0)
    step = bo.jit(opt.update)
    step(ones(opt))

    opt.add_param_group({"params": {"out": net.out}, "lr": 0.01})
    step(ones(opt))

    np.testing.assert_allclose(net.out.W.value, 0.99, rtol=1e-6)
    np.testing.assert_allclose(net.enc.b.value, 0.8, rtol=1e-5)


def test_settings_of_a_group_are_read_and_set(counted):
    net = encoder()
    opt = optim.AdamW(0.1, [{"params": net, "lr": 0.01}], weight_decay=0.0)
    body = counted(opt.update)
    step = bo.jit(body)
    step(ones(opt))
    traces = body.traces

    opt.param_groups[0]["lr"] = 0.5
    opt.param_groups[0]["betas"] = (0.0, 0.0)
    opt.param_groups[0]["eps"] = 0.0
    step(ones(opt))

    assert body.traces == traces
    assert opt.param_groups[0]["lr"] == 0.5
    np.testing.assert_allclose(net.enc.b.value, 1 - 0.01 - 0.5, rtol=1e-5)


@pytest.mark.parametrize("later", [False, True], ids=["a rule", "added later"])
def test_a_group_takes_its_betas_over_to_the_last_digit(later):
    # 1 - float32(0.999) is wrong in the fifth digit, and √v̂ would be in the sixth.
    grad = {"w": jnp.cos(jnp.arange(64.0))}
    node, other = bo.Node(), bo.TrainVar([1.0])
    node.w = bo.TrainVar(jnp.linspace(-1.0, 1.0, 64))
    rules = [] if later else [{"match": "w", "lr": 1e-2}]
    train_vars = other if later else node
    opt = bo.optim.AdamW(1.0, train_vars, dialect="optax", groups=rules)
    if later:
        opt.add_param_group({"params": {"w": node.w}, "lr": 1e-2})
    tx = optax.adamw(1e-2, weight_decay=1e-2)

    @jax.jit
    def by_optax(params, state):
        updates, state = tx.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    params = {"w": jnp.copy(node.w.value)}
    state = tx.init(params)
    for _ in range(20):
        opt.update({"param": None, **grad} if later else grad)
        params, state = by_optax(params, state)

    np.testing.assert_allclose(node.w.value, params["w"], rtol=0, atol=3e-7)


def test_defaults_are_those_of_the_first_group():
    opt = optim.AdamW(0.1, eps=1e-3)

    assert opt.defaults["lr"] == 0.1
    assert opt.defaults["eps"] == 1e-3
    assert opt.defaults["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"lr": 0.1}, "params"),
        ({"params": bo.TrainVar((2,)), "momentun": 0.9}, "momentun"),
        ({"params": bo.TrainVar((2,)), "lr": -1.0}, "lr=-1"),
        ({"params": bo.TrainVar((2,)), "betas": (0.9, 1.0)}, "beta2=1"),
    ],
)
def test_a_bad_group_changes_nothing(group, says):
    opt = optim.AdamW(0.1, bo.TrainVar((2,)))
    paths = list(opt.vars_to_train)

    with pytest.raises(Bad, match=says):
        opt.add_param_group(group)

    assert (len(opt.groups), list(opt.vars_to_train)) == (1, paths)


def test_a_variable_in_two_groups_is_refused():
    w = bo.TrainVar((2,))

    with pytest.raises(Bad, match="two groups"):
        optim.AdamW(0.1, [{"params": w}, {"params": [w], "lr": 0.5}])


# --- rules by name


def test_the_first_rule_that_matches_wins():
    net = encoder()
    rules = [
        {"match": "enc.b", "lr": 0.5},
        {"match": "enc", "lr_mult": 0.1},
        {"match": "*", "lr_mult": 2.0},
    ]
    opt = optim.SGD(0.1, net, groups=rules)

    opt.update(ones(opt))

    np.testing.assert_allclose(net.enc.b.value, 0.5)
    np.testing.assert_allclose(net.enc.W.value, 0.99, rtol=1e-6)
    np.testing.assert_allclose(net.out.W.value, 0.8, rtol=1e-6)
    assert "rule 'enc.b'" in opt.explain("enc.b")
    assert "lr_mult = 0.1" in opt.explain("enc.W")


def test_a_multiplier_follows_the_schedule_and_changes_without_compiling(counted):
    w = bo.TrainVar(jnp.ones(1))
    opt = optim.SGD(0.1, w, groups=[{"match": "*", "lr_mult": 0.5}])
    body = counted(opt.update)
    step = bo.jit(body)
    step(jnp.ones(1))
    traces = body.traces

    opt.lr = 0.2
    opt.groups[1].lr_mult = 2.0
    step(jnp.ones(1))

    assert body.traces == traces
    np.testing.assert_allclose(w.value, 1 - 0.05 - 0.4, rtol=1e-6)


def test_signs_and_bounds_hold_after_each_step():
    ex, g, free = (
        bo.TrainVar(jnp.full(3, 0.05)),
        bo.TrainVar([0.5, 0.9]),
        bo.TrainVar([0.0]),
    )
    dale = jnp.asarray([1.0, -1.0, 0.0])
    opt = optim.SGD(
        1.0,
        {"ex": ex, "g": g, "free": free},
        groups=[{"match": "ex", "sign": dale}, {"match": "g", "bounds": (0.1, 1.0)}],
    )

    grads = {"ex": jnp.full(3, 0.1), "g": jnp.asarray([9.0, -9.0])}
    opt.update({**grads, "free": jnp.ones(1)})

    np.testing.assert_allclose(ex.value, [0.0, -0.05, -0.05], atol=1e-7)
    np.testing.assert_allclose(g.value, [0.1, 1.0])
    np.testing.assert_allclose(free.value, [-1.0])


def test_any_function_may_constrain():
    w = bo.TrainVar(jnp.ones(2))
    unit = lambda x: x / jnp.linalg.norm(x)  # noqa: E731
    opt = optim.SGD(0.1, w, groups=[{"match": "*", "constraint": unit}])

    opt.update(jnp.asarray([1.0, 0.0]))

    assert float(jnp.linalg.norm(w.value)) == pytest.approx(1.0)


MASKS = {
    "path": "enc.W",
    "glob": "enc.*W",
    "regex": "re:enc\\.W",
    "callable": lambda path, value: path == "enc.W",
    "dict": {"enc.W": True, "enc.b": False, "out.W": False},
    "tree": {"enc": {"W": True, "b": False}, "out": False},
    "list": ["enc.W", "re:enc\\.W"],
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_says_what_decays(kind):
    net = encoder()
    opt = optim.AdamW(0.1, net, weight_decay=1.0, mask=MASKS[kind])

    opt.update({k: jnp.zeros_like(g) for k, g in ones(opt).items()})

    found = {k: float(v.value.mean()) for k, v in opt.vars_to_train.items()}
    assert found == pytest.approx({"enc.W": 0.9, "enc.b": 1.0, "out.W": 1.0})


def test_matrices_have_two_axes_or_more():
    net = encoder()
    opt = optim.AdamW(0.1, net, weight_decay=1.0, mask="matrices")

    opt.update({k: jnp.zeros_like(g) for k, g in ones(opt).items()})

    assert "masked" in opt.explain("enc.b")
    assert float(net.enc.b[0]) == 1.0
    assert float(net.out.W[0, 0]) == pytest.approx(0.9)


def test_a_mask_needs_a_decay():
    with pytest.raises(Bad, match="no weight decay"):
        optim.SparseAdam(0.1, mask="*")


def test_a_masked_grouped_optimizer_is_pickled_whole():
    opt = optim.AdamW(
        0.1, encoder(), mask=["*.W", "re:out.*"], groups=[{"match": "enc", "lr": 0.01}]
    )

    other = pickle.loads(pickle.dumps(opt))

    assert other.explain("enc.b") == opt.explain("enc.b")


@pytest.mark.parametrize("through", [lambda f: f, bo.jit])
def test_a_number_that_a_group_has_of_its_own_stays(through):
    variables = {name: bo.TrainVar(jnp.ones(2)) for name in "abc"}
    rules = [{"match": "a", "weight_decay": 0.5}, {"match": "b", "lr_mult": 0.5}]
    opt = bo.optim.SGD(0.1, variables, weight_decay=0.1, groups=rules)

    @through
    def step(decay):
        opt.weight_decay = decay
        opt.update({name: jnp.zeros(2) for name in "abc"})

    step(0.2)
    step(0.4)

    expected = {"a": 0.95**2, "b": 0.99 * 0.98, "c": 0.98 * 0.96}
    for name, variable in variables.items():
        np.testing.assert_allclose(variable.value, expected[name], rtol=1e-6)


def test_betas_reach_the_groups_that_share_them():
    variables = {name: bo.TrainVar(jnp.ones(2)) for name in "abc"}
    rules = [{"match": "a", "lr_mult": 0.5}, {"match": "b", "betas": (0.5, 0.6)}]
    opt = bo.optim.AdamW(0.1, variables, groups=rules)

    opt.betas = (0.8, 0.7)

    found = [tuple(map(float, group["betas"])) for group in opt.param_groups]
    assert found == [(0.8, 0.7), (0.8, 0.7), (0.5, 0.6)]


def test_no_schedule_is_put_in_place_inside_a_compiled_step():
    w = bo.TrainVar(jnp.ones(2))
    opt = bo.optim.SGD(0.1, w, weight_decay=0.1)

    def step():
        opt.weight_decay = lambda count: 0.5

    with pytest.raises(bo.errors.TraceContextError, match="cannot be replaced"):
        bo.jit(step)()
    assert opt.groups[0].schedules == {}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    w: Any
    b: Any

    def __call__(self, x):
        return x @ self.w + self.b


def test_a_tree_of_bools_may_be_a_module_that_can_be_called():
    params = Layer(jnp.ones((2, 2)), jnp.ones(2))
    opt = optim.AdamW(0.1, weight_decay=1.0, mask=Layer(True, False))

    zeros = Layer(jnp.zeros((2, 2)), jnp.zeros(2))
    new, _ = opt.apply(params, opt.init(params), zeros)

    np.testing.assert_allclose(new.w, 0.9, rtol=1e-6)
    np.testing.assert_array_equal(new.b, 1.0)


@pytest.mark.parametrize("kind", [optim.AdamW, optim.SGD, optim.LBFGS])
def test_none_means_no_groups(kind):
    w = bo.TrainVar(jnp.ones(2))

    opt = kind(0.1, w, groups=None)

    assert len(opt.groups) == len(kind(0.1, w).groups) == 1
