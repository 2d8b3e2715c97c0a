# SPDX-License-Identifier: Apache-2.0
"""Every optimizer refuses, skips and survives bad numbers: members times dangers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.optim.members import each, problem
from tests.optim.runs import arrays, assert_same, run, state_of, variables_of

_G = jnp.ones((4, 3))
_B = jnp.ones(3)
BAD = {
    "missing": {"W": _G},
    "extra": {"W": _G, "b": _B, "c": _B},
    "renamed": {"W": _G, "bias": _B},
    "wrong shape": {"W": jnp.ones((3, 4)), "b": _B},
    "broadcastable": {"W": _G, "b": jnp.ones(1)},
    "a number": {"W": _G, "b": 1.0},
    "larger": {"W": jnp.ones((1, 4, 3)), "b": _B},
    "integer": {"W": _G, "b": jnp.ones(3, jnp.int32)},
    "complex": {"W": _G, "b": jnp.ones(3, jnp.complex64)},
    "text": {"W": _G, "b": "1"},
}


@each()
def test_bad_gradients_change_nothing(member):
    opt, variables = run(member, 1)
    before = state_of(opt, variables)

    for kind, grads in BAD.items():
        for call in (opt.update, bo.jit(opt.update), opt.check_grads):
            if kind == "text" and call is not opt.update:
                continue
            with pytest.raises(bo.errors.GradientError):
                call(grads)
            assert assert_same(before, state_of(opt, variables)) is None, kind


@each(but=(bo.optim.LBFGS,))
def test_a_gradient_of_none_leaves_the_variable_alone(member):
    opt, variables = run(member, 1)
    before = state_of(opt, variables)

    opt.update({"W": None, "b": _B})

    after = state_of(opt, variables)
    same = [k for k in before if ".W." in k or k == "var W"]
    for key in same:
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    assert not np.array_equal(after["var b"], before["var b"])


@each(few=True, whole=False)
def test_each_variable_counts_its_own_steps(member):
    params, grads = problem(2, dtype=np.float32)
    alone, together = variables_of({"b": params["b"]}), variables_of(params)
    first, second = member.make(alone), member.make(together)
    b = [jnp.asarray(g["b"]) for g in grads]

    second.update({"W": jnp.asarray(grads[0]["W"]), "b": None})
    for g in b:
        first.update({"b": g})
        second.update({"W": None, "b": g})

    if member.cls is bo.optim.ScheduleFreeAdamW:
        return
    np.testing.assert_allclose(together["b"].value, alone["b"].value, rtol=1e-6)


@each(few=True)
def test_the_functional_core_refuses_what_does_not_fit(member):
    opt, params = member.make(), arrays(problem(dtype=np.float32)[0])
    state = opt.init(params)

    for kind, grads in BAD.items():
        with pytest.raises(bo.errors.GradientError, match="do not fit"):
            if kind == "a number":
                grads = {"W": _G, "b": jnp.ones(())}
            opt.apply(params, state, grads)
    with pytest.raises(bo.errors.GradientError, match="c: not in the state"):
        opt.apply({"c": _B}, state, {"c": _B})


@each(few=True)
def test_the_functional_core_refuses_a_state_of_something_else(member):
    opt, params = member.make(), {"W": _G}
    state = opt.init(params)
    short = {"W": jnp.ones((2, 3))}

    for part in set(state) - {"slots"}:
        without = {k: v for k, v in state.items() if k != part}
        with pytest.raises(bo.errors.GradientError, match=f"missing: {part}"):
            opt.apply(params, without, params)
    if jax.tree.map(jnp.shape, opt.init(short)) != jax.tree.map(jnp.shape, state):
        with pytest.raises(bo.errors.GradientError, match=r"shape|missing"):
            opt.apply(params, opt.init(short), params)


def test_the_functional_core_refuses_the_state_of_another_optimizer():
    params = {"W": _G}
    opt = bo.optim.AdamW(0.1, accumulate=2)

    for other in (bo.optim.SGD(0.1), bo.optim.AdamW(0.1)):
        with pytest.raises(
            bo.errors.GradientError, match=r"missing: slots\.W\.grad_sum"
        ):
            opt.apply(params, other.init(params), params)


@each(few=True)
def test_a_hole_among_parameters_may_be_one_among_gradients(member):
    opt, params = member.make(), {"W": _G, "activation": None}

    new, _ = opt.apply(params, opt.init(params), {"W": _G, "activation": None})

    assert new["activation"] is None
    assert not np.array_equal(new["W"], _G)


@each(few=True, but=(bo.optim.LBFGS,))
def test_the_functional_core_skips_none_too(member):
    opt, params = member.make(), arrays(problem(dtype=np.float32)[0])

    new, state = jax.jit(opt.apply)(params, opt.init(params), {"W": None, "b": _B})

    np.testing.assert_array_equal(new["W"], params["W"])
    assert not np.array_equal(new["b"], params["b"])
    assert int(state["step"]) == int(state["slots"]["W"]["missed_steps"]) == 1


@each(few=True)
def test_a_hundred_bad_gradients_in_a_row_are_never_accepted(member):
    opt, variables = run(member, 1, nonfinite="skip")
    counters = ("counters.skipped", "counters.in_a_row")
    before = {k: v for k, v in state_of(opt, variables).items() if k not in counters}
    bad = jnp.asarray([jnp.nan, jnp.inf, -jnp.inf])
    one = {"W": _G, "b": bad.at[1:].set(1.0)}
    all_ = {"W": jnp.full((4, 3), -jnp.inf), "b": bad}

    bo.jit(lambda: bo.for_loop(lambda _: opt.update(one), jnp.arange(99)))()
    opt.update(all_)

    after = state_of(opt, variables)
    assert_same(before, {k: after[k] for k in before})
    assert [int(after[k]) for k in counters] == [100, 100]
    opt.update({"W": _G, "b": _B})
    assert (int(opt.step), int(opt.metrics()["in_a_row"])) == (2, 0)


@each(few=True)
def test_the_step_saturates(member):
    opt, variables = run(member, 1)
    opt.step.value = jnp.asarray(2**31 - 2, jnp.int32)

    for _ in range(3):
        opt.update({"W": _G, "b": _B})

    assert int(opt.step) == 2**31 - 1
    state = {k: v for k, v in state_of(opt, variables).items() if "numbers" not in k}
    assert all(np.isfinite(v).all() for v in state.values())


@each(few=True)
def test_a_huge_gradient_leaves_finite_weights(member):
    opt, variables = run(member, 1, clip_norm=None)

    opt.update({"W": jnp.full((4, 3), 1e15), "b": jnp.full(3, -1e15)})
    for _ in range(5):
        opt.update({"W": _G, "b": _B})

    assert all(np.isfinite(v.value).all() for v in variables.values())


_NARROW = [
    jnp.bfloat16,
    pytest.param(jnp.float16, marks=pytest.mark.long),
]


@each(few=True)
@pytest.mark.parametrize("dtype", _NARROW)
def test_narrow_weights_follow_the_wide_ones_within_an_ulp(member, dtype):
    """200 steps of 1e-3, with gradients that float16 would square to zero."""
    start = jnp.asarray([[1.0, -0.5], [0.25, 2.0]])
    g = jnp.asarray([[1e-4, 2e-4], [-1e-4, 3e-4]], dtype)
    rate = {} if member.whole else {"lr": 1e-3}
    narrow, wide = bo.TrainVar(start.astype(dtype)), bo.TrainVar(start)
    opt = member.make(narrow, precision="master", **rate)
    reference = member.make(wide, **rate)

    for one, grad in ((opt, g), (reference, g.astype(jnp.float32))):
        steps = bo.jit(lambda o=one, x=grad: bo.for_loop(lambda _: o.update(x), _STEPS))
        steps()

    found = np.asarray(narrow.value.astype(jnp.float32))
    expected = np.asarray(wide.value)
    assert np.isfinite(found).all()
    ulp = np.maximum(np.abs(expected), 2.0**-14) * float(jnp.finfo(dtype).eps)
    assert (np.abs(found - expected) <= ulp).all()


_STEPS = jnp.arange(200)


@each(few=True)
@pytest.mark.parametrize("dtype", _NARROW)
def test_a_gradient_of_zero_is_finite_in_narrow_dtypes(member, dtype):
    w = bo.TrainVar(jnp.ones((2, 2), dtype))
    opt = member.make(w)

    for _ in range(3):
        opt.update(jnp.zeros((2, 2), dtype))

    assert np.isfinite(np.asarray(w.value, np.float32)).all()


@each(whole=False)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_a_rate_out_of_range_is_refused_now_and_later(member, bad):
    w = bo.TrainVar([1.0])
    opt = member.make(w)

    with pytest.raises(bo.errors.HyperparameterError, match="lr="):
        member.make(w, lr=bad)
    with pytest.raises(bo.errors.HyperparameterError, match="lr="):
        opt.lr = bad
    with pytest.raises(bo.errors.HyperparameterError, match="lr="):
        member.make(w, groups=[{"match": "*", "lr": bad}])

    assert float(opt.current_lr) == pytest.approx(member.settings["lr"])


@each(whole=False)
def test_every_number_has_a_range(member):
    opt = member.make(bo.TrainVar([[1.0]]))
    numbers = opt.groups[0].numbers
    decays = dict.fromkeys(numbers.decays, (-0.1, 1.0, 1.5))

    for name in numbers.names:
        before = float(getattr(opt, name))
        for bad in (float("nan"), float("inf"), -float("inf"), *decays.get(name, ())):
            with pytest.raises(bo.errors.HyperparameterError, match=name):
                setattr(opt, name, bad)
        assert float(getattr(opt, name)) == before
