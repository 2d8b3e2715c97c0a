# SPDX-License-Identifier: Apache-2.0
"""Lanes: our Variables inside brainstate's vmap, its states inside ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import TraceContextError
from brainopt.hosts import _brainstate_tracker

pytestmark = pytest.mark.hosts("brainstate")

LANES = jnp.array([0.0, 1.0, 2.0])


@pytest.fixture
def vmap():
    """Return brainstate's vmap, where it tells lanes apart by itself."""
    import brainstate

    if brainstate.__version__ < "0.5":
        pytest.skip("an older vmap, which asks for each state by hand")
    return brainstate.transform.vmap


def trained(value):
    """Return a parameter and an AdamW of it."""
    import brainstate

    state = brainstate.ParamState(jnp.asarray(value, jnp.float32))
    return state, bo.optim.AdamW(0.1, state, weight_decay=0.0)


def concrete(state, opt):
    """Return the parameter and the step, which must be no tracers."""
    values = [state.value, *(v.value for v in opt.vars().values())]
    assert not any(isinstance(value, jax.core.Tracer) for value in values)
    return np.asarray(state.value), int(opt.step)


def test_an_update_by_the_mean_over_the_lanes_steps_once(vmap):
    state, opt = trained([1.0, 2.0])

    def lane(x):
        opt.update(jax.lax.pmean(x * jnp.ones(2), "lane"))

    vmap(lane, axis_name="lane")(LANES)

    value, step = concrete(state, opt)
    # The first step of Adam is the rate by the sign of the gradient.
    np.testing.assert_allclose(value, [0.9, 1.9], rtol=1e-6)
    assert step == 1


def test_nothing_of_a_mapped_update_is_left_for_other_variables(vmap):
    state, opt = trained([1.0, 2.0])

    vmap(lambda x: opt.update(jnp.ones(2)) or x)(LANES)

    # What is left would be found by the next cell that gets the same id.
    assert _brainstate_tracker._overlays.values == {}
    np.testing.assert_allclose(state.value, [0.9, 1.9], rtol=1e-6)


def test_an_update_that_differs_between_lanes_is_refused(vmap):
    state, opt = trained([1.0, 2.0])

    with pytest.raises(Exception, match=r"Declare it in out_states"):
        vmap(lambda x: opt.update(x * jnp.ones(2)))(LANES)

    value, step = concrete(state, opt)
    assert value.tolist() == [1.0, 2.0] and step == 0


def test_moments_of_an_ensemble_that_no_lane_owns_are_refused(vmap):
    state, opt = trained(np.ones((3, 2)))
    rule = {0: {"state": state}}

    with pytest.raises(Exception, match=r"param\.m[\s\S]*out_states"):
        vmap(lambda x: opt.update(x * jnp.ones(2)), in_states=rule, out_states=rule)(
            LANES
        )

    value, step = concrete(state, opt)
    assert value.tolist() == np.ones((3, 2)).tolist() and step == 0


def test_an_update_in_a_lane_of_a_compiled_function_is_refused(vmap):
    from brainstate.transform import jit

    state, opt = trained([1.0, 2.0])

    with pytest.raises(TraceContextError, match="help: use the transform"):
        jit(lambda: vmap(lambda x: opt.update(jnp.ones(2)) or x)(LANES))()

    value, step = concrete(state, opt)
    assert value.tolist() == [1.0, 2.0] and step == 0


def test_an_ensemble_of_states_trains_lane_by_lane_in_our_vmap():
    state, opt = trained(np.ones((3, 2)))
    lanes = [v for v in opt.vars().values() if v.shape == (3, 2)]

    @bo.jit
    def step():
        axes = [(bo.attach(state), 0), (lanes, 0)]
        bo.vmap(lambda x: opt.update(x * jnp.ones(2)), axes=axes)(LANES)

    step()

    value, count = concrete(state, opt)
    np.testing.assert_allclose(value, [[1.0] * 2, [0.9] * 2, [0.9] * 2], rtol=1e-6)
    assert count == 1


def test_each_lane_of_their_vmap_draws_its_own_of_our_numbers(vmap):
    from brainstate.transform import jit

    for wrap in (jit, lambda f: f):
        rng = bo.RandomState(0)
        draw = wrap(lambda rng=rng: vmap(lambda x: rng.normal())(LANES))

        numbers = np.stack([draw(), draw()])

        assert len(np.unique(numbers)) == 6
        assert not isinstance(rng.value, jax.core.Tracer)


def test_each_lane_of_our_vmap_draws_its_own_of_their_numbers():
    import brainstate

    for wrap in (bo.jit, lambda f: f):
        brainstate.random.seed(0)
        draw = wrap(lambda: bo.vmap(lambda x: brainstate.random.randn())(LANES))

        numbers = np.stack([draw(), draw()])

        assert len(np.unique(numbers)) == 6
        assert not isinstance(brainstate.random.DEFAULT.value, jax.core.Tracer)


def test_standing_for_our_random_state_draws_nothing_from_numpy():
    from brainstate.transform import jit

    rng = bo.RandomState(0)
    np.random.seed(0)
    expected = np.random.rand()

    np.random.seed(0)
    jit(rng.normal)()

    assert np.random.rand() == expected
