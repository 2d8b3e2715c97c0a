# SPDX-License-Identifier: Apache-2.0
"""brainstate, brainpy.state and braintools: every route, and what their states hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from brainopt import checkpoint

pytestmark = pytest.mark.hosts("brainstate", "braintools", "optax")

STEPS = 24
X = jnp.asarray(np.random.RandomState(0).randn(16, 3), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


def make(seed=1):
    """Return a net of two layers (each with a dict for its value) and its loss."""
    import brainstate

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [brainstate.nn.Linear(3, 8), brainstate.nn.Linear(8, 1)]

        def update(self, x):
            return self.layers[1](jnp.tanh(self.layers[0](x)))

    brainstate.random.seed(seed)
    net = Net()
    return net, lambda: ((net(X) - Y) ** 2).mean()


def parameters(net):
    import brainstate

    return net.states(brainstate.ParamState)


def adamw(train_vars):
    return bo.optim.AdamW(1e-2, train_vars, dialect="optax")


def by_brainstate(loss, net):
    from brainstate.transform import grad

    return grad(loss, parameters(net), return_value=True)


def by_us(loss, net):
    return bo.grad(loss, net, return_value=True)


def step_of(gradient, opt):
    def step(*_):
        grads, value = gradient()
        opt.update(grads)
        return value

    return step


def eagerly(step):
    return [step() for _ in range(STEPS)]


def in_their_jit(step):
    from brainstate.transform import jit

    step = jit(step)
    return [step() for _ in range(STEPS)]


def in_their_for_loop(step):
    from brainstate.transform import for_loop

    return for_loop(step, jnp.arange(STEPS))


def in_their_scan_in_their_jit(step):
    from brainstate.transform import jit, scan

    rounds = jit(lambda: scan(lambda c, _: (c, step()), 0, jnp.arange(6))[1])
    return jnp.concatenate([rounds() for _ in range(STEPS // 6)])


def in_their_cond_in_our_jit(step):
    from brainstate.transform import cond

    step = bo.jit(lambda on, f=step: cond(on, f, lambda: jnp.zeros(())))
    return [step(True) for _ in range(STEPS)]


def in_our_jit(step):
    step = bo.jit(step)
    return [step() for _ in range(STEPS)]


def in_our_for_loop_in_our_jit(step):
    rounds = bo.jit(lambda: bo.for_loop(step, jnp.arange(6)))
    return jnp.concatenate([rounds() for _ in range(STEPS // 6)])


def in_our_cond_in_their_jit(step):
    from brainstate.transform import jit

    step = jit(lambda on, f=step: bo.cond(on, f, lambda: jnp.zeros(())))
    return [step(True) for _ in range(STEPS)]


ROUTES = [v for n, v in list(globals().items()) if n.startswith(("in_", "eagerly"))]


@functools.cache
def losses_of_optax():
    net, _ = make()
    params = [dict(state.value) for state in parameters(net).values()]
    tx = optax.adamw(1e-2, weight_decay=1e-2)

    def pure(params):
        one, two = params
        hidden = jnp.tanh(X @ one["weight"] + one["bias"])
        return ((hidden @ two["weight"] + two["bias"] - Y) ** 2).mean()

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(pure)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    losses, state = [], tx.init(params)
    for _ in range(STEPS):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses


def losses_of_braintools(make_optimizer):
    from brainstate.transform import jit

    net, loss = make()
    opt = make_optimizer()
    opt.register_trainable_weights(parameters(net))
    step = jit(step_of(by_brainstate(loss, net), opt))
    return [float(step()) for _ in range(STEPS)]


def test_the_references_agree():
    import braintools

    theirs = losses_of_braintools(lambda: braintools.optim.AdamW(1e-2))

    np.testing.assert_allclose(theirs, losses_of_optax(), rtol=1e-6)


@pytest.mark.parametrize("gradient", [by_brainstate, by_us], ids=lambda f: f.__name__)
@pytest.mark.parametrize("route", ROUTES, ids=lambda f: f.__name__)
def test_the_losses_and_the_step_are_those_of_optax(route, gradient):
    net, loss = make()
    opt = adamw(net)

    losses = route(step_of(gradient(loss, net), opt))

    np.testing.assert_allclose(np.asarray(losses), losses_of_optax(), rtol=1e-6)
    assert int(opt.step) == STEPS
    values = [*bo.attach(net).dict().values(), *opt.vars().dict().values()]
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))


def test_it_stands_in_for_a_braintools_optimizer():
    losses = losses_of_braintools(lambda: adamw(None))

    np.testing.assert_allclose(losses, losses_of_optax(), rtol=1e-6)


def test_names_are_attribute_paths():
    net, _ = make()

    assert list(bo.attach(net)) == ["layers.0.weight", "layers.1.weight", "random"]
    assert list(bo.attach(net).state_dict())[:2] == [
        "layers.0.weight.bias",
        "layers.0.weight.weight",
    ]


def test_slots_become_states_of_the_framework_where_it_traces():
    import brainstate
    from brainstate.transform import StatefulFunction

    net, loss = make()
    opt = adamw(net)
    traced = StatefulFunction(step_of(by_brainstate(loss, net), opt))

    states = traced.make_jaxpr().get_states()

    ours = [s for s in states if not isinstance(s, brainstate.ParamState)]
    assert all(isinstance(state, brainstate.LongTermState) for state in ours)
    assert len(ours) >= 1 + 2 * 4  # the step, and two moments of four arrays


def in_their_transforms(opt, loss, by):
    from brainstate.transform import grad, jit

    step = jit(lambda: opt.update(grad(loss, by)()))
    return [step() for _ in range(STEPS)]


def in_our_transforms(opt, loss, by):
    step = bo.jit(lambda: opt.update(bo.grad(loss, by)()))
    return [step() for _ in range(STEPS)]


@pytest.mark.parametrize(
    "train", [in_their_transforms, in_our_transforms], ids=lambda f: f.__name__
)
def test_a_parameter_with_a_unit_keeps_it(train):
    import brainstate
    import brainunit as u

    state = brainstate.ParamState(jnp.array([1.0, 2.0]) * u.mV)
    train(
        bo.optim.SGD(0.1, {"v": state}),
        lambda: ((state.value / u.mV - 3.0) ** 2).sum(),
        {"v": state},
    )

    # x ← x - 0.1 · 2 (x - 3): the distance to 3 shrinks by 0.8 a step.
    expected = 3 - np.array([2.0, 1.0]) * 0.8**STEPS
    np.testing.assert_allclose(state.value.to_decimal(u.mV), expected, rtol=1e-6)
    assert state.value.unit == u.mV


@pytest.mark.parametrize(
    "train", [in_their_transforms, in_our_transforms], ids=lambda f: f.__name__
)
def test_adamw_of_a_parameter_with_a_unit_gives_the_numbers_of_optax(train):
    import brainstate
    import brainunit as u

    state = brainstate.ParamState(jnp.array([1.0, 2.0]) * u.mV)
    opt = adamw({"v": state})
    train(opt, lambda: ((state.value / u.mV - 3.0) ** 2).sum(), {"v": state})

    tx, x = optax.adamw(1e-2, weight_decay=1e-2), jnp.array([1.0, 2.0])
    inner = tx.init(x)
    for _ in range(STEPS):
        updates, inner = tx.update(
            jax.grad(lambda x: ((x - 3.0) ** 2).sum())(x), inner, x
        )
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(state.value.to_decimal(u.mV), x, rtol=1e-6)
    assert int(opt.step) == STEPS and state.value.unit == u.mV


def test_a_parameter_that_is_a_python_number_is_trained():
    import brainstate

    state = brainstate.ParamState(1.0)
    opt = bo.optim.SGD(0.5, state)

    opt.update(bo.jit(bo.grad(lambda: state.value**2, state))())

    assert float(state.value) == 0.0


def recurrent():
    """Return a net with a HiddenState that its loss makes anew, and the loss."""
    import brainstate

    class Leaky(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = brainstate.ParamState(jnp.full((3, 2), 0.1))

        def init_state(self, batch_size=None):
            self.h = brainstate.HiddenState(jnp.zeros((batch_size, 2)))

        def update(self, x):
            self.h.value = 0.9 * self.h.value + x @ self.w.value
            return self.h.value

    net = Leaky()
    xs = jnp.asarray(np.random.RandomState(1).randn(5, 4, 3), jnp.float32)

    def loss(loop):
        brainstate.nn.init_all_states(net, batch_size=4)
        return ((loop(net, xs)[-1] - 1.0) ** 2).mean()

    return net, loss


@pytest.mark.parametrize("who", ["ours", "theirs"])
@pytest.mark.parametrize("loop", ["ours", "theirs"])
def test_states_made_anew_in_the_loss_are_carried(who, loop):
    from brainstate.transform import for_loop, jit

    net, loss = recurrent()
    loops = {"ours": bo.for_loop, "theirs": for_loop}
    opt = bo.optim.SGD(0.1, net.w)
    gradient = bo.grad(lambda: loss(loops[loop]), net.w, return_value=True)
    step = {"ours": bo.jit, "theirs": jit}[who](step_of(gradient, opt))

    losses = [float(step()) for _ in range(STEPS)]

    np.testing.assert_allclose(losses, by_hand(), rtol=1e-5)


@functools.cache
def by_hand():
    xs = np.random.RandomState(1).randn(5, 4, 3)
    w, losses = np.full((3, 2), 0.1), []
    seen = sum(0.9 ** (4 - t) * xs[t] for t in range(5))
    for _ in range(STEPS):
        error = seen @ w - 1.0
        losses.append((error**2).mean())
        w = w - 0.1 * 2 * seen.T @ error / error.size
    return losses


def test_a_hidden_state_of_an_ended_trace_says_so():
    import brainstate

    if not hasattr(brainstate.State, "_invalidate_trace_value"):
        pytest.skip("this brainstate has no mark for such states")
    net, loss = recurrent()
    bo.jit(lambda: loss(bo.for_loop))()

    with pytest.raises(Exception, match="created inside a traced function"):
        net.h.value


def test_dropout_draws_the_same_numbers_on_every_route():
    import brainstate
    from brainstate.transform import jit

    def drawn(wrap):
        brainstate.random.seed(3)
        draw = wrap(lambda: brainstate.random.rand(2))
        return [draw().tolist() for _ in range(3)]

    assert drawn(bo.jit) == drawn(jit) == drawn(lambda f: f)


def test_a_model_resumes_bit_for_bit(tmp_path):
    path = tmp_path / "run.bopt"
    net, loss = make()
    opt = adamw(net)
    step = bo.jit(step_of(by_us(loss, net), opt))
    for _ in range(3):
        step()
    checkpoint.save(path, {"net": bo.attach(net), "opt": opt})
    going_on = [float(step()) for _ in range(4)]

    net, loss = make(seed=8)
    opt = adamw(net)
    checkpoint.restore(path, {"net": bo.attach(net), "opt": opt})
    step = bo.jit(step_of(by_us(loss, net), opt))

    assert [float(step()) for _ in range(4)] == going_on


def test_a_write_hook_of_a_state_acts_once():
    import brainstate

    state = brainstate.ParamState(jnp.array([1.0, 1.0]))
    state.register_hook(
        "write_before",
        lambda ctx: setattr(ctx, "transformed_value", jnp.clip(ctx.value, 0.5, None)),
    )
    opt = bo.optim.SGD(1.0, state)

    bo.jit(lambda: opt.update(jnp.array([0.9, 0.2])))()

    np.testing.assert_allclose(state.value, [0.5, 0.8], rtol=1e-6)


def test_a_hidden_state_of_an_ended_trace_is_no_part_of_the_model(tmp_path):
    net, loss = recurrent()
    bo.jit(lambda: loss(bo.for_loop))()

    assert list(bo.attach(net)) == ["w", "random"]
    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(net)})


def test_a_collector_of_states_is_attached():
    net, _ = make()

    assert list(bo.attach(parameters(net))) == ["layers.0.weight", "layers.1.weight"]
