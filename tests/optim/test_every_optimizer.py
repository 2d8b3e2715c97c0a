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
from tests.optim.runs import arrays, assert_same, run, state_of, variables_of


@each(reference=True)
def test_equals_its_float64_reference(member, x64):
    params, grads = problem(12)
    whole = member.whole
    variables = variables_of({"W": params["W"]} if whole else params)
    opt = member.make(variables)

    for g in grads:
        opt.update(arrays({k: g[k] for k in variables}))

    for key, variable in variables.items():
        settings = {k: v for k, v in member.settings.items() if k != "lr"}
        expected = member.reference(
            params[key], [g[key] for g in grads], member.settings["lr"], **settings
        )
        np.testing.assert_allclose(variable.value, expected, rtol=1e-12, atol=1e-12)


@each(optax=True)
def test_equals_optax(member, x64):
    params, grads = problem(12)
    variables, tx = variables_of(params), member.optax()
    opt, expected, state = member.make(variables), arrays(params), None
    state = tx.init(expected)

    for g in map(arrays, grads):
        opt.update(g)
        updates, state = tx.update(g, state, expected)
        expected = optax.apply_updates(expected, updates)

    for key, variable in variables.items():
        np.testing.assert_allclose(variable.value, expected[key], rtol=1e-9, atol=1e-9)


@pytest.mark.more
@each(few=True)
def test_jit_eager_and_loop_agree(member):
    params, grads = problem(3, dtype=np.float32)
    eager, held = run(member)
    jitted, _ = run(member, through=lambda opt: bo.jit(opt.update))
    variables = variables_of(params)
    looped = member.make(variables)

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *map(arrays, grads))
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
    opt, variables = run(member)
    pure = member.make()
    params = arrays(params)
    state = pure.init(params)
    apply = jax.jit(pure.apply)

    for g in grads:
        params, state = apply(params, state, arrays(g))

    for key, variable in variables.items():
        np.testing.assert_array_equal(params[key], variable.value)
    assert int(state["step"]) == int(opt.step) == 3


@each(few=True)
def test_the_functional_core_may_donate_its_state(member):
    params, grads = problem(2, dtype=np.float32)
    opt = member.make()
    step = jax.jit(opt.apply, donate_argnums=(0, 1))

    def stepped():
        held, state = arrays(params), opt.init(arrays(params))
        for g in map(arrays, grads):
            held, state = step(held, state, g)
        return held

    assert_same(stepped(), stepped())


@each(few=True)
def test_no_two_slots_share_a_buffer(member):
    params = arrays(problem(dtype=np.float32)[0])

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
    variables = variables_of({k: jnp.ones(s, dtype) for k, s in {"W": (4, 3)}.items()})
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
    opt, variables = run(member, 2)
    other, others = run(member, 1)

    other.load_state_dict(opt.state_dict())
    for key, variable in variables.items():
        others[key].value = variable.value
    for g in map(arrays, grads[2:]):
        opt.update(g)
        other.update(g)

    assert_same(state_of(opt, variables), state_of(other, others))


@each(few=True)
def test_a_shared_variable_is_stepped_once(member):
    params, grads = problem(2, dtype=np.float32)
    once = variables_of({"W": params["W"]})
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
    opt = member.make(variables_of(params))
    body = counted(opt.update)
    step = bo.jit(body)
    g = arrays(grads[0])
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
    variables = variables_of(params)
    opt = member.make(variables)
    step = bo.jit(opt.update)
    step(arrays(grads[0]))

    opt.lr = 0.0
    before = np.asarray(variables["b"].value)
    step(arrays(grads[1]))

    goes_on = "Momentum MomentumNesterov LARS Rprop ScheduleFreeAdamW".split()
    if member.cls.__name__ not in goes_on:
        np.testing.assert_array_equal(variables["b"].value, before)


@each(few=True, but=(bo.optim.LBFGS,))
def test_works_in_groups(member):
    params, grads = problem(3, dtype=np.float32)
    variables, single = variables_of(params), variables_of({"b": params["b"]})
    opt = member.make(variables, groups=[{"match": "b", "lr": 0.003}])
    alone = member.make(single, lr=0.003)

    for g in map(arrays, grads):
        opt.update(g)
        alone.update({"b": g["b"]})

    np.testing.assert_allclose(variables["b"].value, single["b"].value, rtol=1e-6)


@each(few=True)
def test_runs_on_device_1(member):
    opt, variables = run(member, 1)
    step = bo.jit(opt.update)
    there = jax.devices()[1]

    opt.to(there)
    g = jax.device_put(arrays(problem(1, dtype=np.float32)[1][0]), there)
    step(g)

    everything = [*opt.vars().unique().values(), *variables.values()]
    assert all(v.value.devices() == {there} for v in everything)


@each(few=True)
def test_runs_under_vmap(member):
    params, grads = problem(1, dtype=np.float32)
    other = jax.tree.map(lambda x: x[::-1] * 2, params)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    opt = member.make()
    g = arrays(grads[0])

    def one(p):
        return opt.apply(p, opt.init(p), g)[0]

    many = jax.jit(jax.vmap(one))(both)

    for i, single in enumerate((params, other)):
        for key, value in jax.jit(one)(arrays(single)).items():
            np.testing.assert_allclose(many[key][i], value, rtol=1e-5, atol=1e-6)


@each()
def test_an_empty_variable_is_no_trouble(member):
    values = {"e": jnp.zeros((0, 2)), "w": jnp.ones((3, 2))}
    variables = {path: bo.TrainVar(value) for path, value in values.items()}
    opt = member.make(variables)

    opt.update(values)

    assert jnp.isfinite(variables["w"].value).all()
    assert variables["e"].shape == (0, 2)


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


@pytest.mark.more
@each(few=True)
def test_copies_are_whole_and_independent(member):
    opt, _ = run(member, 1)
    g = arrays(problem(1, dtype=np.float32)[1][0])
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
    opt, _ = run(member, 1)

    assert repr(opt).startswith(f"{member.cls.__name__}(lr=")
    assert "W" in str(opt.summary())
    assert "group 0" in opt.explain("W")
    assert float(opt.metrics()["lr"]) == pytest.approx(member.settings.get("lr", 1.0))
