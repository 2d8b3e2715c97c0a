# SPDX-License-Identifier: Apache-2.0
"""Every way to train a brainpy model with our AdamW gives the numbers of brainpy's.

The decay rates are exact in float32: brainpy computes ``1 - β**t`` in float32, which
for β = 0.999 is wrong in the fifth digit, and no two programs would agree to 1e-6.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.hosts.brainpy_nets import X, Y, make

pytestmark = pytest.mark.hosts("brainpy")

STEPS = 24
BETAS = {"beta1": 0.875, "beta2": 0.96875}


def adamw(train_vars):
    return bo.optim.AdamW(1e-2, train_vars, dialect="brainpy", **BETAS)


def by_brainpy(loss, net):
    import brainpy.math as bm

    return bm.grad(loss, net.train_vars().unique(), return_value=True)


def by_us(loss, net):
    return bo.grad(loss, net, return_value=True)


def step_of(gradient, opt):
    def step(*_):
        grads, value = gradient()
        opt.update(grads)
        return value

    return step


def in_bm_jit(step):
    import brainpy.math as bm

    step = bm.jit(step)
    return [step() for _ in range(STEPS)]


def in_bm_for_loop(step):
    import brainpy.math as bm

    return bm.for_loop(step, jnp.arange(STEPS))


def eagerly(step):
    return [step() for _ in range(STEPS)]


def in_bo_jit(step):
    step = bo.jit(step)
    return [step() for _ in range(STEPS)]


def in_bo_jit_in_bm_jit(step):
    import brainpy.math as bm

    step = bm.jit(bo.jit(step))
    return [step() for _ in range(STEPS)]


def in_bm_jit_in_bo_jit(step):
    import brainpy.math as bm

    step = bo.jit(bm.jit(step))
    return [step() for _ in range(STEPS)]


def in_bo_for_loop(step):
    return bo.for_loop(step, jnp.arange(STEPS))


def in_bm_for_loop_in_bo_jit(step):
    import brainpy.math as bm

    rounds = bo.jit(lambda: bm.for_loop(step, jnp.arange(6)))
    return jnp.concatenate([rounds() for _ in range(STEPS // 6)])


def in_bo_for_loop_in_bm_jit(step):
    import brainpy.math as bm

    rounds = bm.jit(lambda: bo.for_loop(step, jnp.arange(6)))
    return jnp.concatenate([rounds() for _ in range(STEPS // 6)])


ROUTES = [value for name, value in list(globals().items()) if name.startswith("in_")]


def losses_of_its_formula(net):
    """Return the losses of what AdamW of brainpy 2.8 computes, in plain jax."""
    b1, b2 = BETAS["beta1"], BETAS["beta2"]

    def loss(params):
        hidden = jnp.tanh(X @ params["l1.W"] + params["l1.b"])
        return ((hidden @ params["l2.W"] + params["l2.b"] - Y) ** 2).mean()

    @jax.jit
    def step(t, params, m, v):
        value, grads = jax.value_and_grad(loss)(params)
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, grads)
        lr = 1e-2 * jnp.sqrt(1 - b2**t) / (1 - b1**t)

        def new(p, m, v):
            return p - lr * m / (jnp.sqrt(v) + 1e-8) - 1e-2 * 1e-2 * p

        return value, jax.tree.map(new, params, m, v), m, v

    params = bo.attach(net).train_vars().dict()
    m, v = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    losses = []
    for t in range(1, STEPS + 1):
        value, params, m, v = step(t, params, m, v)
        losses.append(float(value))
    return losses


def test_the_formula_is_what_brainpy_computes(expected):
    agrees(losses_of_its_formula(make()[0]), expected)


@functools.cache
def losses_of_brainpy():
    import brainpy as bp
    import brainpy.math as bm

    net, loss = make()
    if bp.__version__ < "2.8":  # its AdamW corrects every step as the first
        return losses_of_its_formula(net)
    opt = bp.optim.AdamW(1e-2, net.train_vars().unique(), **BETAS)
    step = bm.jit(step_of(by_brainpy(loss, net), opt))
    return [float(step()) for _ in range(STEPS)]


@pytest.fixture
def expected():
    return losses_of_brainpy()


def agrees(losses, expected):
    np.testing.assert_allclose(np.asarray(losses), expected, rtol=1e-6)


@pytest.mark.parametrize("gradient", [by_brainpy, by_us], ids=lambda f: f.__name__)
@pytest.mark.parametrize("route", [eagerly, *ROUTES], ids=lambda f: f.__name__)
def test_the_losses_and_the_step_are_those_of_brainpy(route, gradient, expected):
    net, loss = make()
    opt = adamw(net)

    losses = route(step_of(gradient(loss, net), opt))

    agrees(losses, expected)
    assert int(opt.step) == STEPS


def collector(net):
    return net.train_vars().unique()


def relative_collector(net):
    return net.train_vars(method="relative").unique()


def plain_dict(net):
    return dict(net.train_vars().unique())


def list_of_layers(net):
    return [net.l1, net.l2]


def attached(net):
    return bo.attach(net)


SOURCES = [collector, relative_collector, plain_dict, attached]


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_train_vars_takes_what_brainpy_hands_out(source, expected):
    net, loss = make()
    opt = adamw(source(net))
    gradient = by_brainpy(loss, net)

    agrees(in_bm_jit(step_of(gradient, opt)), expected)


@pytest.mark.parametrize("source", [*SOURCES, list_of_layers], ids=lambda f: f.__name__)
def test_grad_vars_takes_what_brainpy_hands_out(source, expected):
    net, loss = make()
    opt = adamw(source(net))
    gradient = bo.grad(loss, source(net), return_value=True)

    agrees(in_bo_jit(step_of(gradient, opt)), expected)


def test_single_variables_are_taken_too():
    net, loss = make()
    w = net.l1.W
    before = w.value

    gradient = bo.jit(bo.grad(loss, w))()
    bo.optim.SGD(0.5, w).update(gradient)

    np.testing.assert_allclose(w.value, before - 0.5 * gradient, rtol=1e-6)


def test_bptt_fit_trains_with_it(expected):
    import brainpy as bp
    import brainpy.math as bm

    def losses(make_optimizer):
        net, _ = make()
        trainer = bp.BPTT(
            net,
            lambda predicts, targets: ((predicts - targets) ** 2).mean(),
            make_optimizer(),
            progress_bar=False,
        )
        data = [(X[:, None], Y[:, None])] * STEPS
        trainer.fit(lambda: iter(data), num_epoch=1, num_report=1)
        return np.asarray(trainer.get_hist_metric(which="detailed")), trainer

    if bp.__version__ < "2.8":
        pytest.skip("BPTT of brainpy 2.7 fails by itself")
    bm.random.seed(0)
    ours, trainer = losses(lambda: adamw(None))
    theirs, _ = losses(lambda: bp.optim.AdamW(1e-2, **BETAS))
    assert int(trainer.optimizer.step) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    # Before its first slow step, Lookahead does as the optimizer inside.
    around, _ = losses(lambda: bo.optim.Lookahead(adamw(None), sync_period=100))
    np.testing.assert_allclose(around, theirs, rtol=1e-6)


def test_the_rate_changes_without_compiling_in_bm_jit(counted):
    import brainpy.math as bm

    net, loss = make()
    opt = adamw(net)
    body = counted(step_of(by_brainpy(loss, net), opt))
    step = bm.jit(lambda: body())
    step()
    traces = body.traces

    opt.lr = 0.0
    opt.weight_decay = 0.0
    before = np.asarray(net.l1.W.value)
    step()

    np.testing.assert_array_equal(net.l1.W.value, before)
    assert body.traces == traces


@pytest.mark.long  # jax collects all garbage for each trace it checks
@pytest.mark.parametrize("kind", ["bm.jit", "bo.jit", "bo.jit in bm.jit"])
def test_nothing_leaks_a_tracer(kind):
    import brainpy.math as bm

    wrap = {
        "bm.jit": bm.jit,
        "bo.jit": bo.jit,
        "bo.jit in bm.jit": lambda step: bm.jit(bo.jit(step)),
    }[kind]
    net, _ = make()
    opt = adamw(net)

    def step(x, y):
        loss = bo.grad(lambda: ((net(x) - y) ** 2).mean(), net, return_value=True)
        grads, value = loss()
        opt.update(grads)
        return value

    with jax.checking_leaks():
        wrap(step)(X, Y)


@pytest.mark.parametrize("route", [eagerly, *ROUTES], ids=lambda f: f.__name__)
def test_no_route_leaves_a_tracer_in_the_model(route):
    net, loss = make()
    opt = adamw(net)

    route(step_of(by_us(loss, net), opt))

    values = [v.value for v in (*bo.attach(net).values(), *opt.vars().values())]
    assert not any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(values))


def test_a_step_is_compiled_once_though_brainpy_makes_weakly_typed_biases(counted):
    net, loss = make()
    if not net.l1.b.value.weak_type:
        pytest.skip("this brainpy makes none")
    body = counted(step_of(by_us(loss, net), adamw(net)))
    step = bo.jit(lambda: body())
    step()
    traces = body.traces

    step()

    assert body.traces == traces
    assert not net.l1.b.value.weak_type


@pytest.mark.parametrize("wrap", [bo.jit, lambda f: bo.jit(bo.grad(lambda w: f() * w))])
def test_a_delay_that_is_reset_inside_a_step_says_what_to_do(wrap):
    import brainpy as bp
    import brainpy.math as bm

    if bp.__version__ < "2.8":
        pytest.skip("its delays cannot be made")
    delay = bp.VarDelay(bm.Variable(jnp.ones(2)), time=0.3)

    def reset_and_read():
        delay.reset_state()
        return delay.data.value.sum()

    args = () if wrap is bo.jit else (1.0,)
    with pytest.raises(bo.errors.TraceContextError, match="reset the model outside"):
        wrap(reset_and_read)(*args)
    delay.reset_state()
    assert bo.jit(lambda: delay.data.value.sum())() == 0.0


def wrapped_by_bm(step):
    import brainpy.math as bm

    return bm.jit(step)


def wrapped_by_both(step):
    return wrapped_by_bm(bo.jit(step))


def wrapped_in_ours(step):
    return bo.jit(wrapped_by_bm(step))


WRAPS = [wrapped_by_bm, wrapped_by_both, wrapped_in_ours]


@pytest.mark.parametrize("wrap", WRAPS, ids=lambda f: f.__name__)
def test_a_compiled_step_follows_changes_of_the_optimizer(wrap):
    net, loss = make()
    opt = bo.optim.SGD(0.1, net)
    step = wrap(step_of(by_us(loss, net), opt))

    def moved():
        before = bo.attach(net).train_vars().dict()
        step()
        after = bo.attach(net).train_vars().dict()
        return [path for path in before if (before[path] != after[path]).any()]

    assert moved() == ["l1.W", "l1.b", "l2.W", "l2.b"]
    opt.freeze("l1.W")
    assert moved() == ["l1.b", "l2.W", "l2.b"]
    remove = opt.before_update(lambda opt, grads: jax.tree.map(jnp.zeros_like, grads))
    assert moved() == []
    remove()
    assert moved() == ["l1.b", "l2.W", "l2.b"]


@pytest.mark.parametrize("wrap", WRAPS, ids=lambda f: f.__name__)
def test_a_compiled_step_raises_after_gradients_that_are_not_finite(wrap):
    net, _ = make()
    opt = bo.optim.SGD(0.1, net, nonfinite="raise")
    poison = {path: v * jnp.nan for path, v in bo.attach(net).train_vars().items()}
    step = wrap(lambda: opt.update(poison) or opt.step.value)
    step().block_until_ready()

    with pytest.raises(bo.errors.GradientError, match="not finite 1 times"):
        jax.effects_barrier()
        step()


@pytest.mark.parametrize("run", [in_bm_jit, in_bm_for_loop])
def test_no_value_is_taken_for_a_constant(run):
    net, loss = make()
    step = step_of(by_brainpy(loss, net), adamw(net.train_vars().unique()))

    with warnings.catch_warnings():
        warnings.simplefilter("error", bo.errors.TracingWarning)
        run(step)
