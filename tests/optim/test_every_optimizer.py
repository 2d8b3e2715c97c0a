# SPDX-License-Identifier: Apache-2.0
"""Every optimizer keeps every promise: members times promises."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import each, problem


def _vars(params):
    return {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}


def _arrays(grads):
    return jax.tree.map(jnp.asarray, grads)


def _state(opt, variables):
    state = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    return state | {f"var {k}": np.asarray(v.value) for k, v in variables.items()}


def _same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def _run(member, steps=3, dtype=np.float32, through=None, **more):
    params, grads = problem(steps, dtype=dtype)
    variables = _vars(params)
    opt = member.make(variables, **more)
    step = opt.update if through is None else through(opt)
    for g in grads:
        step(_arrays(g))
    return opt, variables


@each(reference=True)
def test_equals_its_float64_reference(member, x64):
    params, grads = problem(12)
    whole = member.whole
    variables = _vars({"W": params["W"]} if whole else params)
    opt = member.make(variables)

    for g in grads:
        opt.update(_arrays({k: g[k] for k in variables}))

    for key, variable in variables.items():
        settings = {k: v for k, v in member.settings.items() if k != "lr"}
        expected = member.reference(
            params[key], [g[key] for g in grads], member.settings["lr"], **settings
        )
        np.testing.assert_allclose(variable.value, expected, rtol=1e-12, atol=1e-12)


@each(optax=True)
def test_equals_optax(member, x64):
    params, grads = problem(12)
    variables, tx = _vars(params), member.optax()
    opt, expected, state = member.make(variables), _arrays(params), None
    state = tx.init(expected)

    for g in map(_arrays, grads):
        opt.update(g)
        updates, state = tx.update(g, state, expected)
        expected = optax.apply_updates(expected, updates)

    for key, variable in variables.items():
        np.testing.assert_allclose(variable.value, expected[key], rtol=1e-9, atol=1e-9)


@each(few=True)
def test_jit_eager_and_loop_agree(member):
    params, grads = problem(3, dtype=np.float32)
    eager, held = _run(member)
    jitted, _ = _run(member, through=lambda opt: bo.jit(opt.update))
    variables = _vars(params)
    looped = member.make(variables)

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *map(_arrays, grads))
    bo.for_loop(looped.update, stacked)

    for key, value in eager.state_dict().items():
        other = jitted.state_dict()[key], looped.state_dict()[key]
        np.testing.assert_allclose(other[0], value, rtol=1e-5, atol=1e-6, err_msg=key)
        np.testing.assert_allclose(other[1], value, rtol=1e-5, atol=1e-6, err_msg=key)
    for key, variable in variables.items():
        np.testing.assert_allclose(variable.value, held[key].value, rtol=1e-6)


@each(few=True)
def test_the_functional_core_equals_the_object(member):
    params, grads = problem(3, dtype=np.float32)
    opt, variables = _run(member)
    pure = member.make()
    params = _arrays(params)
    state = pure.init(params)
    apply = jax.jit(pure.apply)

    for g in grads:
        params, state = apply(params, state, _arrays(g))

    for key, variable in variables.items():
        np.testing.assert_array_equal(params[key], variable.value)
    assert int(state["step"]) == int(opt.step) == 3


@each(few=True)
def test_no_two_slots_share_a_buffer(member):
    params = _arrays(problem(dtype=np.float32)[0])

    state = member.make().init(params)

    leaves = [x for x in jax.tree.leaves((params, state)) if x.size > 1]
    assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)


@each(few=True)
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(jnp.float32, marks=pytest.mark.long),
        jnp.bfloat16,
        pytest.param(jnp.float16, marks=pytest.mark.long),
    ],
)
def test_dtypes_stay(member, dtype):
    variables = _vars({k: jnp.ones(s, dtype) for k, s in {"W": (4, 3)}.items()})
    opt = member.make(variables)
    before = {k: v.dtype for k, v in opt.state_dict().items()}

    opt.update({"W": jnp.ones((4, 3), dtype)})

    assert variables["W"].value.dtype == dtype
    assert not variables["W"].value.weak_type
    assert {k: v.dtype for k, v in opt.state_dict().items()} == before
    assert all(np.isfinite(np.asarray(v, np.float32)).all() for v in _finite(opt))


def _finite(opt):
    return [v for k, v in opt.state_dict().items() if "numbers" not in k]


@each()
def test_a_run_resumes_bit_for_bit(member):
    _, grads = problem(4, dtype=np.float32)
    opt, variables = _run(member, 2)
    other, others = _run(member, 1)

    other.load_state_dict(opt.state_dict())
    for key, variable in variables.items():
        others[key].value = variable.value
    for g in map(_arrays, grads[2:]):
        opt.update(g)
        other.update(g)

    _same(_state(opt, variables), _state(other, others))


@each(few=True)
def test_a_shared_variable_is_stepped_once(member):
    params, grads = problem(2, dtype=np.float32)
    once = _vars({"W": params["W"]})
    shared = bo.TrainVar(params["W"])
    twice = member.make({"W": shared, "tied": shared})
    opt = member.make(once)

    for g in grads:
        opt.update({"W": jnp.asarray(g["W"])})
        twice.update({"W": jnp.asarray(g["W"])})

    np.testing.assert_array_equal(shared.value, once["W"].value)


@each(few=True)
def test_compiles_once_whatever_number_changes(member, counted):
    params, grads = problem(1, dtype=np.float32)
    opt = member.make(_vars(params))
    body = counted(opt.update)
    step = bo.jit(body)
    g = _arrays(grads[0])
    step(g)
    opt.update(g)
    once = body.traces

    for _ in range(9):
        step(g)
    opt.lr = 0.5
    for name in opt.groups[0].numbers.names:
        setattr(opt, name, float(getattr(opt, name)) * 0.99)
        step(g)
    with jax.no_tracing():
        opt.update(g)

    assert body.traces == once


@each(few=True)
def test_a_changed_rate_takes_effect_at_the_next_step(member):
    params, grads = problem(2, dtype=np.float32)
    variables = _vars(params)
    opt = member.make(variables)
    step = bo.jit(opt.update)
    step(_arrays(grads[0]))

    opt.lr = 0.0
    before = np.asarray(variables["b"].value)
    step(_arrays(grads[1]))

    goes_on = "Momentum MomentumNesterov LARS Rprop ScheduleFreeAdamW".split()
    if member.cls.__name__ not in goes_on:
        np.testing.assert_array_equal(variables["b"].value, before)


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
    opt, variables = _run(member, 1)
    before = _state(opt, variables)

    for kind, grads in BAD.items():
        for call in (opt.update, bo.jit(opt.update), opt.check_grads):
            if kind == "text" and call is not opt.update:
                continue
            with pytest.raises(bo.errors.GradientError):
                call(grads)
            assert _same(before, _state(opt, variables)) is None, kind


@each(but=(bo.optim.LBFGS,))
def test_a_gradient_of_none_leaves_the_variable_alone(member):
    opt, variables = _run(member, 1)
    before = _state(opt, variables)

    opt.update({"W": None, "b": _B})

    after = _state(opt, variables)
    same = [k for k in before if ".W." in k or k == "var W"]
    for key in same:
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    assert not np.array_equal(after["var b"], before["var b"])


@each(few=True, whole=False)
def test_each_variable_counts_its_own_steps(member):
    params, grads = problem(2, dtype=np.float32)
    alone, together = _vars({"b": params["b"]}), _vars(params)
    first, second = member.make(alone), member.make(together)
    b = [jnp.asarray(g["b"]) for g in grads]

    second.update({"W": jnp.asarray(grads[0]["W"]), "b": None})
    for g in b:
        first.update({"b": g})
        second.update({"W": None, "b": g})

    if member.cls is bo.optim.ScheduleFreeAdamW:
        return
    np.testing.assert_allclose(together["b"].value, alone["b"].value, rtol=1e-6)


@each(few=True, but=(bo.optim.LBFGS,))
def test_works_in_groups(member):
    params, grads = problem(3, dtype=np.float32)
    variables, single = _vars(params), _vars({"b": params["b"]})
    opt = member.make(variables, groups=[{"match": "b", "lr": 0.003}])
    alone = member.make(single, lr=0.003)

    for g in map(_arrays, grads):
        opt.update(g)
        alone.update({"b": g["b"]})

    np.testing.assert_allclose(variables["b"].value, single["b"].value, rtol=1e-6)


@each(few=True)
def test_runs_on_device_1(member):
    opt, variables = _run(member, 1)
    step = bo.jit(opt.update)
    there = jax.devices()[1]

    opt.to(there)
    g = jax.device_put(_arrays(problem(1, dtype=np.float32)[1][0]), there)
    step(g)

    everything = [*opt.vars().unique().values(), *variables.values()]
    assert all(v.value.devices() == {there} for v in everything)


@each(few=True)
def test_runs_under_vmap(member):
    params, grads = problem(1, dtype=np.float32)
    other = jax.tree.map(lambda x: x[::-1] * 2, params)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    opt = member.make()
    g = _arrays(grads[0])

    def one(p):
        return opt.apply(p, opt.init(p), g)[0]

    many = jax.jit(jax.vmap(one))(both)

    for i, single in enumerate((params, other)):
        for key, value in jax.jit(one)(_arrays(single)).items():
            np.testing.assert_allclose(many[key][i], value, rtol=1e-5, atol=1e-6)


@each(few=True)
def test_goes_downhill(member):
    target = jnp.asarray([[1.0, -2.0], [0.5, 3.0]])
    w = bo.TrainVar(jnp.zeros((2, 2)))
    opt = member.make(w)
    loss_of = lambda: ((w.value - target) ** 2).sum()  # noqa: E731
    first = float(loss_of())

    def body(_):
        opt.update(2 * (w.value - target))

    bo.for_loop(body, jnp.arange(60))

    assert float(loss_of()) < first


@each(few=True)
def test_copies_are_whole_and_independent(member):
    opt, _ = _run(member, 1)
    g = _arrays(problem(1, dtype=np.float32)[1][0])
    if member.cls is bo.optim.Optax:
        copies = [copy.deepcopy(opt)]
    else:
        copies = [copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    leaves, tree = jax.tree.flatten(opt)
    copies.append(jax.tree.unflatten(tree, leaves))

    for other in copies:
        other.update(g)
        assert (int(opt.step), int(other.step)) == (1, 2)


@each(few=True)
def test_says_what_it_is(member):
    opt, _ = _run(member, 1)

    assert repr(opt).startswith(f"{member.cls.__name__}(lr=")
    assert "W" in str(opt.summary())
    assert "group 0" in opt.explain("W")
    assert float(opt.metrics()["lr"]) == pytest.approx(member.settings.get("lr", 1.0))


@each(few=True)
def test_the_functional_core_refuses_what_does_not_fit(member):
    opt, params = member.make(), _arrays(problem(dtype=np.float32)[0])
    state = opt.init(params)

    for kind, grads in BAD.items():
        with pytest.raises(bo.errors.GradientError, match="do not fit"):
            if kind == "a number":
                grads = {"W": _G, "b": jnp.ones(())}
            opt.apply(params, state, grads)
    with pytest.raises(bo.errors.GradientError, match="c: not in the state"):
        opt.apply({"c": _B}, state, {"c": _B})


@each(few=True, but=(bo.optim.LBFGS,))
def test_the_functional_core_skips_none_too(member):
    opt, params = member.make(), _arrays(problem(dtype=np.float32)[0])

    new, state = jax.jit(opt.apply)(params, opt.init(params), {"W": None, "b": _B})

    np.testing.assert_array_equal(new["W"], params["W"])
    assert not np.array_equal(new["b"], params["b"])
    assert int(state["step"]) == int(state["slots"]["W"]["late"]) == 1


@each(few=True)
def test_a_hundred_bad_gradients_in_a_row_are_never_accepted(member):
    opt, variables = _run(member, 1, nonfinite="skip")
    counters = ("guard.skipped", "guard.in_a_row")
    before = {k: v for k, v in _state(opt, variables).items() if k not in counters}
    bad = jnp.asarray([jnp.nan, jnp.inf, -jnp.inf])
    one = {"W": _G, "b": bad.at[1:].set(1.0)}
    all_ = {"W": jnp.full((4, 3), -jnp.inf), "b": bad}

    bo.jit(lambda: bo.for_loop(lambda _: opt.update(one), jnp.arange(99)))()
    opt.update(all_)

    after = _state(opt, variables)
    _same(before, {k: after[k] for k in before})
    assert [int(after[k]) for k in counters] == [100, 100]
    opt.update({"W": _G, "b": _B})
    assert (int(opt.step), int(opt.metrics()["in_a_row"])) == (2, 0)


@each(few=True)
def test_the_step_saturates(member):
    opt, variables = _run(member, 1)
    opt.step.value = jnp.asarray(2**31 - 2, jnp.int32)

    for _ in range(3):
        opt.update({"W": _G, "b": _B})

    assert int(opt.step) == 2**31 - 1
    state = {k: v for k, v in _state(opt, variables).items() if "numbers" not in k}
    assert all(np.isfinite(v).all() for v in state.values())


@each(few=True)
def test_a_huge_gradient_leaves_finite_weights(member):
    opt, variables = _run(member, 1, clip_norm=None)

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
        run = bo.jit(lambda o=one, x=grad: bo.for_loop(lambda _: o.update(x), _STEPS))
        run()

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
