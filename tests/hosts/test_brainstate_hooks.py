# SPDX-License-Identifier: Apache-2.0
"""Hooks of brainstate's states: they see the writes of brainopt, on every route."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint

pytestmark = pytest.mark.hosts("brainstate")


def their_jit(function):
    from brainstate.transform import jit

    return jit(function)


WRAPS = pytest.mark.parametrize(
    "wrap", [lambda f: f, bo.jit, their_jit], ids=["eagerly", "bo.jit", "theirs"]
)


def at_least_a_half(ctx):
    ctx.transformed_value = jnp.clip(ctx.value, 0.5, None)


def trained(wrap):
    """Return a parameter of two ones, and a step that takes 0.3 and 0.2 away."""
    import brainstate

    state = brainstate.ParamState(jnp.ones(2))
    opt = bo.optim.SGD(1.0, state)
    return state, wrap(lambda: opt.update(jnp.array([0.3, 0.2])))


@WRAPS
def test_a_hook_before_a_write_acts_at_each_step(wrap):
    state, step = trained(wrap)
    state.register_hook("write_before", at_least_a_half)

    seen = [step() or np.asarray(state.value) for _ in range(3)]

    np.testing.assert_allclose(seen, [[0.7, 0.8], [0.5, 0.6], [0.5, 0.5]], rtol=1e-6)


@WRAPS
def test_a_hook_that_comes_after_the_first_step_acts(wrap):
    state, step = trained(wrap)
    step()
    state.register_hook("write_before", at_least_a_half)
    step()
    step()

    np.testing.assert_allclose(state.value, [0.5, 0.5], rtol=1e-6)


@WRAPS
def test_a_hook_of_all_states_acts(wrap):
    import brainstate

    state, step = trained(wrap)
    step()
    seen = []
    handle = brainstate.register_state_hook(
        "write_after", lambda ctx: seen.append(ctx.state_ref() is state)
    )
    try:
        step()
    finally:
        brainstate.unregister_state_hook(handle)

    assert seen and all(seen)


@WRAPS
def test_a_cached_parameter_is_computed_anew_after_a_step(wrap):
    import brainstate

    if not hasattr(brainstate.nn, "Param"):
        pytest.skip("this brainstate has no such parameters")
    param = brainstate.nn.Param(jnp.ones(2), t=brainstate.nn.ExpT(0.0))
    opt = bo.optim.SGD(1.0, {"w": param.val})
    step = wrap(lambda: opt.update({"w": jnp.array([0.3, 0.2])}))
    step()
    step()
    param.cache()
    step()

    expected = param.t.forward(param.val.value)
    np.testing.assert_allclose(param.value(), expected, rtol=1e-6)


def test_a_cached_parameter_is_computed_anew_after_a_restore(tmp_path):
    import brainstate

    if not hasattr(brainstate.nn, "Param"):
        pytest.skip("this brainstate has no such parameters")
    param = brainstate.nn.Param(jnp.ones(2), t=brainstate.nn.SoftplusT(0.0))
    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(param)})
    param.set_value(jnp.full(2, 3.0))
    param.cache()

    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(param)})

    np.testing.assert_allclose(param.value(), [1.0, 1.0], rtol=1e-6)


def test_a_hook_that_refuses_a_value_leaves_all_as_it_was():
    import brainstate

    def refuse(ctx):
        ctx.cancel = True

    states = {k: brainstate.ParamState(jnp.ones(1)) for k in "ab"}
    states["b"].register_hook("write_before", refuse)
    opt = bo.optim.SGD(1.0, states)

    with pytest.raises(brainstate.HookCancellationError):
        opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})

    assert [float(s.value[0]) for s in states.values()] == [1.0, 1.0]
    assert int(opt.step) == 0


@pytest.mark.parametrize("donate", [True, False])
@pytest.mark.parametrize("when", ["write_before", "write_after"])
def test_a_hook_that_fails_leaves_a_compiled_step_undone(when, donate):
    import brainstate

    def fail(ctx):
        raise ValueError("the user's own")

    states = {k: brainstate.ParamState(jnp.ones(1)) for k in "abc"}
    opt = bo.optim.Adam(0.1, states)
    step = bo.jit(lambda: opt.update(dict.fromkeys("abc", jnp.ones(1))), donate=donate)
    step(), step()
    before = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    values = {k: float(s.value[0]) for k, s in states.items()}
    states["b"].hooks.config.on_error = "raise"
    states["b"].register_hook(when, fail)

    with pytest.raises(brainstate.HookExecutionError):
        step()

    assert {k: float(s.value[0]) for k, s in states.items()} == values
    for key, value in opt.state_dict().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize("wrap", [lambda f: f, bo.jit], ids=["eagerly", "bo.jit"])
def test_going_back_does_not_ask_hooks(wrap):
    import brainstate

    def at_least_two(ctx):
        ctx.transformed_value = jnp.clip(ctx.value, 2.0, None)

    def refuse(ctx):
        ctx.cancel = True

    states = {k: brainstate.ParamState(jnp.ones(1)) for k in "ab"}
    opt = bo.optim.SGD(0.1, states)
    step = wrap(lambda: opt.update(dict.fromkeys("ab", jnp.ones(1))))
    step(), step()
    before = float(states["a"].value[0])
    states["a"].register_hook("write_before", at_least_two)
    states["b"].register_hook("write_before", refuse)

    with pytest.raises(brainstate.HookCancellationError):
        step()

    assert float(states["a"].value[0]) == before
