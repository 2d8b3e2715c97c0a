# SPDX-License-Identifier: Apache-2.0
"""``opt.step(closure)``, L-BFGS, SAM, and averages of weights."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim


def test_step_returns_the_loss_and_takes_the_step():
    w, twin = bo.TrainVar([1.0, 2.0]), bo.TrainVar([1.0, 2.0])
    opt, other = optim.AdamW(0.1, w), optim.AdamW(0.1, twin)

    loss = opt.step(lambda: (w**2).sum())
    other.update(2 * twin.value)

    assert float(loss) == 5.0
    np.testing.assert_array_equal(w.value, twin.value)


def test_step_passes_on_what_else_the_closure_returns_and_keeps_what_it_writes():
    w, calls = bo.TrainVar([1.0]), bo.Variable(0.0)
    opt = optim.SGD(0.1, w)

    def closure():
        calls.value += 1
        return (w**2).sum(), {"w": w}

    loss, aux = bo.jit(lambda: opt.step(closure))()

    assert (float(loss), float(aux["w"][0]), int(calls)) == (1.0, 1.0, 1)


def test_step_counts_and_is_counted():
    opt = optim.SGD(0.1, bo.TrainVar([1.0]))

    opt.zero_grad()
    opt.step(lambda: opt.vars_to_train["param"].sum())

    assert int(opt.step) == opt.step.value == 1


@pytest.mark.parametrize(
    "closure",
    [None, lambda: jnp.ones(2), lambda: 1, {"param": 1.0}],
    ids=["nothing", "a vector", "an int", "gradients"],
)
def test_step_needs_a_loss(closure):
    w = bo.TrainVar([1.0])
    opt = optim.SGD(0.1, w)

    with pytest.raises(bo.errors.GradientError):
        opt.step(closure)

    assert (int(opt.step), float(w[0])) == (0, 1.0)


def test_a_failing_closure_changes_nothing():
    w, count = bo.TrainVar([1.0]), bo.Variable(0.0)
    opt = optim.AdamW(0.1, w)

    def closure():
        count.value += 1
        raise KeyError("no")

    with pytest.raises(KeyError):
        opt.step(closure)

    assert (int(count), int(opt.step), float(w[0])) == (0, 0, 1.0)


def test_a_complex_loss_goes_down():
    z = bo.TrainVar(jnp.asarray([1 + 1j]))
    opt = optim.SGD(0.1, z)

    opt.step(lambda: (jnp.abs(z.value - 2) ** 2).sum())

    np.testing.assert_allclose(z.value, [1.2 + 0.8j], rtol=1e-6)


@pytest.mark.more
def test_the_notebook_trains():
    """The example of the PyTorch notebook: a loss below 1e-3 after 500 steps."""
    key = jax.random.split(jax.random.key(0), 6)
    x, y = jax.random.normal(key[0], (64, 1000)), jax.random.normal(key[1], (64, 10))

    def uniform(key, shape, fan_in):
        return bo.TrainVar(
            jax.random.uniform(key, shape, minval=-1, maxval=1) / np.sqrt(fan_in)
        )

    net = {
        "W1": uniform(key[2], (1000, 100), 1000),
        "b1": uniform(key[3], (100,), 1000),
        "W2": uniform(key[4], (100, 10), 100),
        "b2": uniform(key[5], (10,), 100),
    }
    opt = optim.Adam(1e-4, net)

    def loss():
        h = jax.nn.relu(x @ net["W1"].value + net["b1"].value[None])
        return ((h @ net["W2"].value + net["b2"].value[None] - y) ** 2).sum()

    losses = bo.jit(lambda: bo.for_loop(lambda _: opt.step(loss), jnp.arange(500)))()

    assert float(losses[0]) > 500
    assert float(losses[-1]) < 1e-3


# --- L-BFGS


def _rosenbrock(w):
    x = w.value
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.more
@pytest.mark.parametrize(
    "through", ["jit", pytest.param("eager", marks=pytest.mark.long)]
)
def test_lbfgs_finds_the_minimum_of_rosenbrock(through, x64):
    w = bo.TrainVar(jnp.asarray([-1.2, 1.0, -1.2, 1.0]))
    opt = optim.LBFGS(train_vars=w, max_iter=100)
    step = lambda: opt.step(lambda: _rosenbrock(w))  # noqa: E731
    first = bo.jit(step)() if through == "jit" else step()

    assert float(first) > 100
    np.testing.assert_allclose(w.value, 1.0, atol=1e-6)
    assert int(opt.step) == 1


@pytest.mark.more
def test_lbfgs_goes_on_where_it_was(x64):
    def run(steps, opt, w):
        step = bo.jit(lambda: opt.step(lambda: _rosenbrock(w)))
        for _ in range(steps):
            step()

    start = jnp.asarray([-1.2, 1.0])
    w, v = bo.TrainVar(start), bo.TrainVar(start)
    opt = optim.LBFGS(train_vars=w, max_iter=5, history_size=3)
    other = optim.LBFGS(train_vars=v, max_iter=5, history_size=3)

    run(3, opt, w)
    run(1, other, v)
    third = optim.LBFGS(train_vars=v, max_iter=5, history_size=3)
    third.load_state_dict(other.state_dict())
    run(2, third, v)

    np.testing.assert_array_equal(w.value, v.value)


def test_lbfgs_leaves_frozen_variables_and_keeps_what_the_closure_writes():
    a, b, calls = bo.TrainVar([3.0]), bo.TrainVar([3.0]), bo.Variable(0.0)
    opt = optim.LBFGS(train_vars={"a": a, "b": b})
    opt.freeze("b")

    def closure():
        calls.value += 1
        return ((a - 1) ** 2 + (b - 1) ** 2).sum()

    opt.step(closure)

    np.testing.assert_allclose([a[0], b[0]], [1.0, 3.0], atol=1e-4)
    assert int(calls) == 1


def test_lbfgs_stays_at_a_loss_that_is_not_finite():
    w = bo.TrainVar([-1.0])
    opt = optim.LBFGS(train_vars=w)

    opt.step(lambda: jnp.log(w.value).sum())

    assert float(w[0]) == -1.0


# --- SAM, EMA, Lookahead


def test_sam_takes_the_gradient_from_the_worst_place_nearby():
    w = bo.TrainVar([3.0, 4.0])
    sam = optim.SAM(optim.SGD(0.1, w), rho=0.5)

    loss = bo.jit(lambda: sam.step(lambda: (w**2).sum() / 2))()

    start = np.asarray([3.0, 4.0])
    worst = start + 0.5 * start / 5
    assert float(loss) == 12.5
    np.testing.assert_allclose(w.value, start - 0.1 * worst, rtol=1e-6)


def test_adaptive_sam_measures_in_units_of_the_weights():
    w = bo.TrainVar([3.0, 4.0])
    sam = optim.SAM(optim.SGD(0.1, w), rho=0.5, adaptive=True)

    sam.step(lambda: (w**2).sum() / 2)

    start = np.asarray([3.0, 4.0])
    scaled = start * start
    worst = start + 0.5 * start * scaled / np.linalg.norm(scaled)
    np.testing.assert_allclose(w.value, start - 0.1 * worst, rtol=1e-6)


def test_a_compiled_step_follows_what_stands_around_the_optimizer():
    w = bo.TrainVar([1.0, 2.0])
    sam = optim.SAM(optim.SGD(0.0, w), rho=0.5)
    ahead = optim.Lookahead(optim.SGD(0.0, w))
    seen = []
    step = bo.jit(lambda: seen.append(sam.adaptive) or sam.step(lambda: (w**2).sum()))
    other = bo.jit(lambda: ahead.step(lambda: (w**2).sum()))
    step(), other()

    sam.adaptive = True
    ahead.optimizer = optim.SGD(0.5, w)
    step(), other()

    assert seen[-1] is True
    np.testing.assert_array_equal(w.value, jnp.zeros(2))


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_mean_it_says(warmup):
    w = bo.TrainVar(jnp.zeros(2))
    ema = optim.EMA(w, 0.9, warmup)
    update, expected = bo.jit(ema.update), 0.0

    for t in range(5):
        w.value = jnp.full(2, float(t))
        update()
        decay = min(0.9, (1 + t) / (10 + t)) if warmup else 0.9
        expected = decay * expected + (1 - decay) * t

    np.testing.assert_allclose(ema.averages()["param"], expected, rtol=1e-5)


def test_ema_is_wide_and_swaps_in_and_out():
    w = bo.TrainVar(jnp.ones(2, jnp.bfloat16))
    ema = optim.EMA(w, 0.5, warmup=False)
    w.value = jnp.zeros(2, jnp.bfloat16)
    ema.update()

    with pytest.raises(ZeroDivisionError), ema.swapped():
        assert w.value.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(w.value, float), 0.5)
        1 / 0

    assert ema.shadow["param"].value.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(w.value, float), 0.0)


def test_ema_resumes_and_changes_its_decay_without_compiling(counted):
    w = bo.TrainVar(jnp.ones(2))
    ema = optim.EMA(w, 0.9, warmup=False)
    body = counted(ema.update)
    update = bo.jit(body)
    update()
    traces = body.traces

    ema.decay = 0.0
    w.value = jnp.full(2, 7.0)
    update()
    other = optim.EMA(w, 0.9)
    other.load_state_dict(ema.state_dict())

    assert body.traces == traces
    np.testing.assert_array_equal(other.averages()["param"], 7.0)


@pytest.mark.parametrize("through", ["eager", "jit"])
def test_lookahead_returns_towards_the_slow_weights(through):
    w = bo.TrainVar([1.0])
    opt = optim.Lookahead(optim.SGD(0.1, w), sync_period=2, alpha=0.5)
    step = bo.jit(opt.update) if through == "jit" else opt.update
    found = []

    for _ in range(4):
        step(jnp.ones(1))
        found.append(float(w[0]))

    np.testing.assert_allclose(found, [0.9, 0.9, 0.8, 0.8], rtol=1e-6)


def test_lookahead_counts_steps_and_not_calls():
    w = bo.TrainVar([1.0])
    inner = optim.SGD(0.1, w, accumulate=2, nonfinite="skip")
    opt, found = optim.Lookahead(inner, sync_period=2, alpha=0.5), []
    grads = [1.0, 1.0, jnp.nan, 1.0, 1.0]

    for g in grads:
        opt.update(jnp.full(1, g))
        found.append(float(w[0]))

    assert int(opt.count) == 2
    np.testing.assert_allclose(found, [1.0, 0.9, 0.9, 0.9, 0.9], rtol=1e-6)


def test_lookahead_leaves_what_is_frozen():
    a, b = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    opt = optim.Lookahead(optim.SGD(0.1, {"a": a, "b": b}), sync_period=2)
    grads = {"a": jnp.ones(1), "b": jnp.ones(1)}
    opt.update(grads)
    opt.optimizer.freeze("a")

    opt.update(grads)

    np.testing.assert_allclose([a[0], b[0]], [0.9, 0.9], rtol=1e-6)
    assert float(opt.slow["a"][0]) == 1.0


def test_lookahead_takes_no_half_step_on_variables_it_does_not_follow():
    a, b = bo.TrainVar([1.0]), bo.TrainVar([1.0])
    opt = optim.Lookahead(optim.SGD(0.1, {"a": a}))
    opt.optimizer.register_train_vars({"b": b})

    with pytest.raises(bo.errors.GradientError, match="no slow weights"):
        opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})

    assert a[0] == b[0] == 1.0


@pytest.mark.parametrize("cls", [optim.ASGD, optim.ScheduleFreeAdamW])
def test_averages_are_swapped_in_for_evaluation(cls):
    w = bo.TrainVar([1.0])
    opt = cls(0.1, w, **({"t0": 0.0} if cls is optim.ASGD else {}))
    for _ in range(3):
        opt.update(jnp.ones(1))
    trained = float(w[0])

    with opt.swapped():
        average = float(w[0])

    assert float(w[0]) == trained < average < 1.0


def test_an_optimizer_that_took_a_step_is_freed_with_its_last_name():
    opt = bo.optim.AdamW(0.1, {"w": bo.TrainVar(jnp.ones(3))})
    gone, step = weakref.ref(opt), opt.step
    opt.update({"w": jnp.ones(3)})

    assert int(step) == 1
    del opt
    gc.collect()

    assert gone() is None
    with pytest.raises(ReferenceError, match="keep `opt` too"):
        step(lambda: 0.0)
