# SPDX-License-Identifier: Apache-2.0
"""What happens to gradients before the rule: guard, micro-batches, clipping, norms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import each

optim = bo.optim
BAD = [jnp.nan, jnp.inf, -jnp.inf]


def _pair(cls=optim.AdamW, **settings):
    w, b = bo.TrainVar(jnp.ones((2, 3))), bo.TrainVar(jnp.ones(3))
    return {"w": w, "b": b}, cls(0.1, {"w": w, "b": b}, **settings)


def _grads(value=1.0, one=None):
    w = jnp.full((2, 3), value)
    return {"w": w if one is None else w.at[1, 2].set(one), "b": jnp.full(3, value)}


def _frozen_state(opt, variables):
    counters = ("counters.skipped", "counters.in_a_row")
    state = {k: np.asarray(v) for k, v in opt.state_dict().items() if k not in counters}
    return state | {k: np.asarray(v.value) for k, v in variables.items()}


def _same(a, b):
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@each(few=True, whole=False)
@pytest.mark.parametrize(
    "through", ["jit", pytest.param("eager", marks=pytest.mark.long)]
)
def test_a_bad_gradient_changes_nothing_but_the_count(member, through):
    variables = {"w": bo.TrainVar(jnp.ones((2, 3))), "b": bo.TrainVar(jnp.ones(3))}
    opt = member.make(variables, nonfinite="skip")
    step = bo.jit(opt.update) if through == "jit" else opt.update
    step(_grads())
    before = _frozen_state(opt, variables)

    for bad in BAD:
        step(_grads(one=bad))

    _same(before, _frozen_state(opt, variables))
    metrics = opt.metrics()
    assert (int(metrics["skipped"]), int(metrics["in_a_row"])) == (3, 3)
    step(_grads())
    assert (int(opt.metrics()["in_a_row"]), int(opt.step)) == (0, 2)


def test_bad_gradients_are_let_in_if_nothing_is_said():
    variables, opt = _pair()

    opt.update(_grads(one=jnp.nan))

    assert np.isnan(variables["w"].value).sum() == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_too_many_in_a_row_raise_at_once_in_eager_mode(limit):
    variables, opt = _pair(nonfinite="raise", max_nonfinite=limit)
    opt.update(_grads())
    before = _frozen_state(opt, variables)

    for _ in range(limit - 1):
        opt.update(_grads(jnp.nan))
    with pytest.raises(bo.errors.GradientError, match=f"{limit} times in a row"):
        opt.update(_grads(jnp.nan))

    for _ in range(3):
        with pytest.raises(bo.errors.GradientError):
            opt.update(_grads(jnp.nan))

    _same(before, _frozen_state(opt, variables))


def test_too_many_in_a_row_raise_at_the_next_call_of_a_compiled_step():
    variables, opt = _pair(nonfinite="raise", max_nonfinite=2)
    step = bo.jit(opt.update)
    step(_grads())
    before = _frozen_state(opt, variables)

    for _ in range(2):
        step(_grads(jnp.nan))
    jax.effects_barrier()
    with pytest.raises(bo.errors.GradientError, match="2 times in a row"):
        step(_grads())

    _same(before, _frozen_state(opt, variables))
    step(_grads())
    assert int(opt.step) == 2


@pytest.mark.parametrize("through", ["eager", "jit"])
def test_micro_batches_equal_the_large_batch(through):
    rng = np.random.default_rng(0)
    parts = [{"w": rng.normal(size=(2, 3)), "b": rng.normal(size=3)} for _ in range(8)]
    parts = [jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), p) for p in parts]
    variables, opt = _pair(accumulate=4)
    others, whole = _pair()
    step = bo.jit(opt.update) if through == "jit" else opt.update

    for i, part in enumerate(parts):
        step(part)
        assert int(opt.step) == (i + 1) // 4
    for i in (0, 4):
        whole.update(jax.tree.map(lambda *g: sum(g) / 4, *parts[i : i + 4]))

    for key in variables:
        np.testing.assert_allclose(variables[key].value, others[key].value, rtol=1e-6)


def test_micro_batches_weigh_by_their_size():
    variables, opt = _pair(optim.SGD, accumulate=2)

    opt.update(_grads(1.0), weight=3)
    opt.update(_grads(5.0), weight=1)

    np.testing.assert_allclose(variables["b"].value, 1 - 0.1 * 2.0, rtol=1e-6)


def _through(way, opt, variables):
    """Return a function that takes one micro-batch, and one that reads a variable."""
    if way != "core":
        update = bo.jit(opt.update) if way == "jit" else opt.update
        return update, lambda name: variables[name].value
    held = [(p := {k: v.value for k, v in variables.items()}, opt.init(p))]
    return (
        lambda grads: held.append(opt.apply(*held[-1], grads)),
        lambda name: held[-1][0][name],
    )


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("way", ["eager", "jit", "core", "optax"])
def test_a_gradient_of_none_in_a_window(way, place):
    """Zero beside others, as in torch; in the whole window, no gradient at all."""
    variables = {k: bo.TrainVar([1.0]) for k in ("always", "once", "never")}
    if way == "optax":
        tx = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
        opt = optim.Optax(tx, variables, accumulate=2)
    else:
        opt = optim.SGD(0.1, variables, weight_decay=0.5, accumulate=2)
    update, read = _through(way, opt, variables)

    for i in range(4):
        none = dict.fromkeys(variables)
        one = {"always": jnp.ones(1)} | (
            {"once": jnp.ones(1)} if i % 2 == place else {}
        )
        update(none | one)

    expected = {"never": 1.0}
    for name, mean in {"always": 1.0, "once": 0.5}.items():
        w = 1 - 0.1 * (mean + 0.5)
        expected[name] = w - 0.1 * (mean + 0.5 * w)
    for name, value in expected.items():
        np.testing.assert_allclose(read(name), value, rtol=1e-6, err_msg=name)


def test_the_rest_of_a_window_is_a_step():
    w = bo.TrainVar([1.0])
    opt = optim.SGD(0.1, w, accumulate=4, nonfinite="skip")

    for g in (1.0, 3.0, jnp.nan):
        opt.update(jnp.array([g]))
    bo.jit(opt.flush)()
    opt.flush()
    optim.SGD(0.1, w).flush()

    np.testing.assert_allclose(w.value, 1 - 0.1 * 2.0, rtol=1e-6)
    assert (int(opt.step), int(opt.counters["micro_batches"].value)) == (1, 0)
    assert int(opt.metrics()["in_a_row"]) == 1


def test_a_wrapper_flushes_what_is_inside():
    w = bo.TrainVar([1.0])
    opt = optim.Lookahead(optim.SGD(0.1, w, accumulate=2), sync_period=1, alpha=0.5)

    opt.update({"param": jnp.ones(1)})
    opt.flush()

    np.testing.assert_allclose(w.value, 0.95, rtol=1e-6)


def test_a_bad_micro_batch_does_not_count():
    variables, opt = _pair(optim.SGD, accumulate=2, nonfinite="skip")

    opt.update(_grads(1.0))
    opt.update(_grads(jnp.inf))
    assert int(opt.step) == 0
    opt.update(_grads(3.0))

    np.testing.assert_allclose(variables["b"].value, 1 - 0.1 * 2.0, rtol=1e-6)


def test_the_number_of_micro_batches_changes_without_compiling(counted):
    _, opt = _pair(accumulate=2)
    body = counted(opt.update)
    step = bo.jit(body)
    step(_grads())
    traces = body.traces

    opt.accumulate = 3
    step(_grads())
    step(_grads())

    assert (body.traces, int(opt.step)) == (traces, 1)


def test_micro_batches_resume_in_the_middle():
    variables, opt = _pair(accumulate=2)
    opt.update(_grads(1.0))
    others, other = _pair(accumulate=2)

    other.load_state_dict(opt.state_dict())
    opt.update(_grads(2.0))
    other.update(_grads(2.0))

    _same(opt.state_dict(), other.state_dict())
    np.testing.assert_array_equal(variables["w"].value, others["w"].value)


def test_a_weight_needs_micro_batches():
    _, opt = _pair()

    with pytest.raises(bo.errors.HyperparameterError, match="accumulate"):
        opt.update(_grads(), weight=2)


def test_the_tools_equal_optax():
    rng = np.random.default_rng(0)
    grads = {"a": jnp.asarray(rng.normal(size=(4, 3))), "b": jnp.asarray([9.0])}

    def check(ours, tx):
        theirs, _ = tx.update(grads, tx.init(grads))
        for key in grads:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6)

    check(optim.clip_by_global_norm(grads, 1.0), optax.clip_by_global_norm(1.0))
    check(optim.clip_by_global_norm(grads, 99.0), optax.clip_by_global_norm(99.0))
    check(optim.clip_by_value(grads, 0.5), optax.clip(0.5))
    np.testing.assert_allclose(
        optim.global_norm(grads), optax.tree.norm(grads), rtol=1e-6
    )


def test_each_gradient_may_have_its_own_norm():
    grads = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.asarray([0.3, 0.4]), "c": None}

    clipped = optim.clip_by_norm(grads, 1.0)

    np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(clipped["b"], grads["b"])
    assert clipped["c"] is None


def test_a_zero_gradient_survives_clipping():
    grads = {"a": jnp.zeros(3)}

    for clip in (optim.clip_by_global_norm, optim.clip_by_norm, optim.clip_by_value):
        np.testing.assert_array_equal(clip(grads, 1.0)["a"], 0.0)


def test_a_complex_gradient_is_clipped_by_its_modulus():
    clipped = optim.clip_by_value({"a": jnp.asarray([3 + 4j, 0.1j])}, 1.0)["a"]

    np.testing.assert_allclose(clipped, [0.6 + 0.8j, 0.1j], rtol=1e-6)


def test_centralized_gradients_have_no_mean():
    g = jnp.asarray([[1.0, 10.0], [3.0, 30.0]])

    found = optim.centralize({"w": g, "b": g[0]})

    np.testing.assert_allclose(found["w"], [[-1.0, -10.0], [1.0, 10.0]])
    np.testing.assert_array_equal(found["b"], g[0])


def test_large_float16_gradients_have_a_finite_norm():
    norm = optim.global_norm({"a": jnp.full(4, 60000, jnp.float16)})

    np.testing.assert_allclose(norm, 120000, rtol=1e-3)


def test_the_norm_is_clipped_over_all_groups():
    variables, opt = _pair(optim.SGD, clip_norm=1.0, groups=[{"match": "b", "lr": 0.2}])

    opt.update(_grads(1.0))

    norm = 3.0
    np.testing.assert_allclose(variables["w"].value, 1 - 0.1 / norm, rtol=1e-6)
    np.testing.assert_allclose(variables["b"].value, 1 - 0.2 / norm, rtol=1e-6)


def test_the_clip_changes_without_compiling(counted):
    variables, opt = _pair(optim.SGD, clip_value=1.0)
    body = counted(opt.update)
    step = bo.jit(body)
    step(_grads(100.0))
    traces = body.traces

    opt.clip_value = 3.0
    step(_grads(100.0))

    assert body.traces == traces
    np.testing.assert_allclose(variables["b"].value, 1 - 0.1 - 0.3, rtol=1e-6)


def test_norms_are_noted_in_a_compiled_step():
    _, opt = _pair(optim.SGD, monitor=True)

    bo.jit(opt.update)(_grads(2.0))

    metrics = {name: float(value) for name, value in opt.metrics().items()}
    assert metrics["grad_norm"] == pytest.approx(6.0)
    assert metrics["param_norm"] == pytest.approx(3.0)
    assert metrics["update_ratio"] == pytest.approx(0.2)
    assert (metrics["step"], metrics["lr"]) == (1, pytest.approx(0.1))


def test_a_refusal_names_the_gradients_with_counts_and_the_step():
    _, opt = _pair(nonfinite="raise")
    opt.update(_grads())
    opt.update(_grads())
    said = r"after step 2.*\n  w: 1 of 6 numbers\nhelp: .*find_nan"

    with pytest.raises(bo.errors.GradientError, match=said):
        opt.update(_grads(one=jnp.nan))


def test_a_compiled_step_names_them_at_its_next_call():
    _, opt = _pair(nonfinite="raise")
    step = bo.jit(opt.update)
    step(_grads())
    step(_grads(one=jnp.inf))
    jax.effects_barrier()

    with pytest.raises(bo.errors.GradientError, match=r"step 1.*\n  w: 1 of 6 numbers"):
        step(_grads())


@each(few=True)
@pytest.mark.parametrize(
    "through", ["jit", pytest.param("eager", marks=pytest.mark.long)]
)
def test_the_norms_of_each_variable_are_those_of_numpy(member, through):
    variables = {"w": bo.TrainVar(jnp.ones((2, 3))), "b": bo.TrainVar(jnp.ones(3))}
    opt = member.make(variables, monitor="variables")
    before = {path: np.asarray(v.value) for path, v in variables.items()}
    grads = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(3.0) - 1}

    (bo.jit(opt.update) if through == "jit" else opt.update)(grads)
    seen = opt.metrics(per_variable=True)

    for path, variable in variables.items():
        change = np.asarray(variable.value) - before[path]
        for name, array in (
            ("grad_norm", grads[path]),
            ("param_norm", before[path]),
            ("update_norm", change),
        ):
            right = np.linalg.norm(np.asarray(array, np.float64).ravel())
            np.testing.assert_allclose(seen[f"{name}/{path}"], right, rtol=1e-5)


def test_norms_that_are_not_noted_are_refused():
    _, opt = _pair(monitor=True)

    with pytest.raises(bo.errors.HyperparameterError, match="monitor='variables'"):
        opt.metrics(per_variable=True)
    with pytest.raises(bo.errors.HyperparameterError, match="monitor='each'"):
        _pair(monitor="each")


def test_micro_batches_are_counted_in_a_step_for_skipped_variables_alone():
    def threaded(**others):
        _, opt = _pair(optim.SGD, accumulate=4)
        step = bo.jit(opt.update)
        step(_grads() | others)
        return len(jax.tree.leaves(step.trace(_grads()).jaxpr.in_avals))

    # Two more for the variable that was skipped: the count, and its missed steps.
    assert threaded(b=None) == threaded() + 2
