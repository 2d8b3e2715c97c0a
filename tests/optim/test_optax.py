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
    "schedule free": optax.contrib.schedule_free_adamw(0.01),
    "twelve in a chain": optax.chain(*[optax.trace(0.5)] * 12, optax.scale(-0.01)),
    "partition": optax.partition(
        {"W": optax.adam(0.01), "b": optax.sgd(0.1)}, {"W": "b", "b": "W"}
    ),
}


def _long_but(quick, all_):
    return [pytest.param(k, marks=[pytest.mark.long] * (k not in quick)) for k in all_]


@pytest.mark.more
@pytest.mark.parametrize("through", ["eager", "jit"])
@pytest.mark.parametrize(
    "kind", _long_but(("chain", "schedule free", "twelve in a chain"), TXS)
)
def test_any_transformation_becomes_a_node(kind, through):
    tx, (params, grads) = TXS[kind], problem(4, dtype=np.float32)
    variables = {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}
    opt = bo.optim.Optax(tx, variables)
    step = bo.jit(opt.update) if through == "jit" else opt.update
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


def _rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


ASKING = {
    "lbfgs": optax.lbfgs(),
    "polyak": optax.polyak_sgd(),
    "plateau": optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau()),
    "backtracking": optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20)
    ),
}


@pytest.mark.parametrize(
    "through", ["jit", pytest.param("eager", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("kind", _long_but(("plateau",), ASKING))
def test_a_closure_gives_what_a_transformation_asks_for(kind, through):
    tx, x = ASKING[kind], jnp.asarray([-1.2, 1.0, -0.5])
    w = bo.TrainVar(x)
    opt = bo.optim.Optax(tx, w)
    step = lambda: opt.step(lambda: _rosenbrock(w.value))  # noqa: E731
    step = bo.jit(step) if through == "jit" else step
    state, ask = tx.init(x), jax.jit(jax.value_and_grad(_rosenbrock))

    @jax.jit
    def peer(x, state):
        value, g = ask(x)
        more = dict(value=value, grad=g, value_fn=_rosenbrock)
        updates, state = tx.update(g, state, x, **more)
        return optax.apply_updates(x, updates), state

    for _ in range(4):
        step()
        x, state = peer(x, state)

    np.testing.assert_allclose(w.value, x, rtol=1e-4, atol=1e-5)
    assert int(opt.step) == 4


@pytest.mark.more
def test_a_line_search_climbs_as_it_descends():
    ends = []
    for maximize, sign in ((False, 1), (True, -1)):
        w = bo.TrainVar([-1.2, 1.0, -0.5])
        opt = bo.optim.Optax(optax.lbfgs(), w, maximize=maximize)
        step = bo.jit(lambda o=opt, w=w, s=sign: o.step(lambda: s * _rosenbrock(w)))
        losses = [sign * float(step()) for _ in range(4)]
        ends.append([*losses, *np.asarray(w.value)])

    np.testing.assert_array_equal(ends[0], ends[1])
    assert ends[0][3] < ends[0][0]


@pytest.mark.more
def test_a_line_search_leaves_out_what_is_frozen():
    start, held = jnp.asarray([-1.2, 1.0]), jnp.asarray([-0.5])
    whole = lambda x, y: _rosenbrock(jnp.concatenate([x, y]))  # noqa: E731
    variables = {"x": bo.TrainVar(start), "y": bo.TrainVar(held)}
    opt = bo.optim.Optax(optax.lbfgs(), variables)
    opt.freeze("y")
    alone = bo.TrainVar(start)
    peer = bo.optim.Optax(optax.lbfgs(), alone)
    both = lambda: whole(variables["x"].value, variables["y"].value)  # noqa: E731
    step = bo.jit(lambda: opt.step(both))
    step_alone = bo.jit(lambda: peer.step(lambda: whole(alone.value, held)))

    for _ in range(4):
        step()
        step_alone()

    np.testing.assert_allclose(variables["x"].value, alone.value, rtol=1e-5)
    np.testing.assert_array_equal(variables["y"].value, held)


def _two(tx, **settings):
    variables = {k: bo.TrainVar([1.0]) for k in "ab"}
    opt = bo.optim.Optax(tx, variables, **settings)
    opt.update({k: jnp.ones(1) for k in "ab"})
    return variables, opt


@pytest.mark.parametrize("through", ["jit", "eager", "frozen"])
@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
        optax.masked(optax.adam(0.1), {"a": True, "b": True}),
        optax.adabelief(0.1),
    ],
    ids=["chain", "masked", "adabelief"],
)
def test_a_skipped_variable_keeps_the_leaves_that_are_its_own(tx, through):
    variables, opt = _two(tx)
    before = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    a = np.asarray(variables["a"].value)
    step = bo.jit(opt.update) if through == "jit" else opt.update

    if through == "frozen":
        opt.freeze("a")
    step({"a": None, "b": jnp.ones(1)})

    after = opt.state_dict()
    own = [k for k in before if k.startswith("slots.") and k.endswith(".a")]
    others = [k for k in before if k.startswith("slots.") and k.endswith(".b")]
    counts = [k for k in before if k.endswith("count")]
    assert len(own) == len(others) == 2 and len(counts) == 1
    for key in own:
        np.testing.assert_array_equal(after[key], before[key])
    for key in others:
        assert not np.array_equal(after[key], before[key])
    assert int(after[counts[0]]) == 2  # shared: it counts the step
    np.testing.assert_array_equal(variables["a"].value, a)


def test_groups_scale_and_bound_what_a_transformation_does():
    rule = {"match": "a", "lr_mult": 0.5, "bounds": (0.0, 1.0)}
    variables, opt = _two(optax.sgd(0.1), groups=[rule])

    opt.update({"a": jnp.full(1, -9.0), "b": jnp.ones(1)})

    np.testing.assert_allclose(variables["b"].value, 0.8, rtol=1e-6)
    np.testing.assert_allclose(variables["a"].value, 1.0)


@pytest.mark.parametrize("precision", ["master", "kahan", "stochastic"])
def test_small_changes_of_narrow_weights_survive(precision):
    w = bo.TrainVar(jnp.ones(256, jnp.bfloat16))
    opt = bo.optim.Optax(optax.adam(1e-4), w, precision=precision)

    bo.for_loop(lambda _: opt.update(jnp.ones(256, jnp.bfloat16)), jnp.arange(100))

    assert opt.slots[""]["0.mu.param"].value.dtype == jnp.float32
    assert abs(np.asarray(w.value, float).mean() - 0.99) < 2e-3


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


def _adamw(learning_rate, beta):
    return bo.optim.AdamW(learning_rate, beta1=beta, dialect="optax").as_optax()


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f])
def test_numbers_injected_at_each_step_are_used(wrap):
    """They had been those of the first step for ever."""
    rate = optax.linear_schedule(1e-1, 1e-3, 6)
    ours = optax.inject_hyperparams(_adamw)(learning_rate=rate, beta=0.9)
    theirs = optax.inject_hyperparams(optax.adamw)(rate, b1=0.9, weight_decay=1e-2)
    values = []
    for tx, name in ((ours, "beta"), (theirs, "b1")):
        params = {"w": jnp.array([1.0, -2.0])}
        update, state = wrap(tx.update), tx.init(params)
        for i in range(6):
            state.hyperparams[name] = jnp.asarray(0.5 if i > 2 else 0.9)
            grads = jax.tree.map(lambda w: w * w - 1.5, params)
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
        values.append(params["w"])

    np.testing.assert_allclose(*values, rtol=1e-5)


def test_the_numbers_in_a_state_go_on_in_the_transformation_that_made_it():
    tx = bo.optim.SGD(0.1).as_optax()
    params = {"w": jnp.ones(1)}
    state = tx.init(params)
    state["groups.default.schedule.numbers"] = jnp.array([0.5])

    updates, _ = tx.update(params, state, params)

    assert updates["w"].tolist() == [-0.5]


def test_masks_and_labels_are_by_path():
    net = {"in": {"w": bo.TrainVar(jnp.ones(2))}, "out": bo.TrainVar(jnp.ones(1))}
    with pytest.raises(bo.errors.HyperparameterError, match=r"\['in\.w', 'out'\]"):
        bo.optim.Optax(optax.adamw(0.1, mask={"in": {"w": True}, "out": False}), net)

    tx = optax.adamw(0.1, weight_decay=1.0, mask={"in.w": True, "out": False})
    opt = bo.optim.Optax(tx, net)
    opt.update({"in.w": jnp.zeros(2), "out": jnp.zeros(1)})

    np.testing.assert_allclose(net["in"]["w"].value, 0.9, rtol=1e-6)
    assert net["out"].value.tolist() == [1.0]
