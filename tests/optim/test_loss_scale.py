# SPDX-License-Identifier: Apache-2.0
"""A dynamic loss scale: float16 gradients that would vanish, and its saved state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim
SCALE = optim.LossScale(initial=2.0**14, growth_interval=3)


def torch_scale(scale, tracker, is_finite, by=SCALE):
    """The rule of torch's ``GradScaler.update``, with the ``minimum`` of jmp."""
    if not is_finite:
        return max(scale * by.backoff_factor, by.minimum), 0
    if tracker + 1 == by.growth_interval:
        return scale * by.growth_factor, 0
    return scale, tracker + 1


def _half(start=1.0, **settings):
    w = bo.TrainVar(jnp.full(2, start, jnp.float16))
    settings = {"loss_scale": SCALE, "precision": "master", **settings}
    return w, optim.SGD(1.0, w, **settings)


@pytest.mark.parametrize("way", ["jit", "core"])
def test_the_scale_follows_the_rule_of_torch(way):
    w, opt = _half()
    held = [(w.value, opt.init(w.value))]
    apply, update = jax.jit(opt.apply), bo.jit(opt.update)
    rng, scale, tracker, taken = np.random.default_rng(0), 2.0**14, 0, 0

    for is_finite in rng.random(40) < 0.8:
        grad = jnp.full(2, 1.0 if is_finite else jnp.inf, jnp.float16)
        if way == "core":
            held.append(apply(*held[-1], grad))
            state = held[-1][1]
            found = state["counters.loss_scale"], state["step"]
        else:
            update(grad)
            found = opt.metrics()["loss_scale"], opt.step.value
        scale, tracker = torch_scale(scale, tracker, is_finite)
        taken += is_finite
        assert (float(found[0]), int(found[1])) == (scale, taken)


@pytest.mark.parametrize("way", ["closure", "grads", "sam"])
def test_gradients_below_float16_arrive(way):
    """1e-9 is 0 in float16; times the scale it is not."""
    w, opt = _half(start=0.0)
    loss = lambda: (w.value * jnp.float16(1e-4)).astype(float).sum() * 1e-5  # noqa: E731

    if way == "closure":
        assert float(bo.jit(lambda: opt.step(loss))()) == 0.0
    elif way == "sam":
        optim.SAM(opt).step(loss)
    else:
        opt.update(bo.grad(lambda: opt.scale_loss(loss()), w)())

    unscaled = jax.grad(lambda x: (x * jnp.float16(1e-4)).astype(float).sum() * 1e-5)
    assert not np.any(unscaled(w.value))
    np.testing.assert_allclose(opt.slots["param"]["master"].value, -1e-9, rtol=1e-3)


def test_a_scale_stays_at_its_minimum_and_below_infinity():
    w, opt = _half(loss_scale=optim.LossScale(initial=2.0, growth_interval=1))
    step = bo.jit(opt.update)

    for _ in range(3):
        step(jnp.full(2, jnp.nan, jnp.float16))
    assert float(opt.metrics()["loss_scale"]) == 1.0
    opt.counters["loss_scale"].value = jnp.asarray(2.0**127)
    step(jnp.ones(2, jnp.float16))

    assert float(opt.metrics()["loss_scale"]) == 2.0**127
    assert np.isfinite(np.asarray(w.value, np.float32)).all()


def test_a_run_with_a_scale_resumes(tmp_path):
    _, opt = _half(accumulate=2)
    for g in (1.0, jnp.inf, 1.0, 1.0):
        opt.update(jnp.full(2, g, jnp.float16))
    bo.checkpoint.save(tmp_path / "s.bopt", {"opt": opt})

    _, other = _half(accumulate=2)
    bo.checkpoint.restore(tmp_path / "s.bopt", {"opt": other})

    assert float(other.metrics()["loss_scale"]) == 2.0**13
    assert int(other.counters["finite_in_a_row"].value) == 2


BAD = [
    (dict(loss_scale=2.0), "LossScale"),
    (dict(loss_scale="static"), "'dynamic'"),
    (dict(nonfinite="raise"), "max_nonfinite"),
]


@pytest.mark.parametrize(("settings", "says"), BAD)
def test_a_scale_that_is_none_is_refused(settings, says):
    with pytest.raises(bo.errors.HyperparameterError, match=says):
        _half(**settings)
    with pytest.raises(
        bo.errors.HyperparameterError, match=r"(?s)initial=0.*growth_interval"
    ):
        optim.LossScale(initial=0, growth_interval=2.5)
    with pytest.raises(bo.errors.HyperparameterError, match="loss_scale"):
        optim.LBFGS(loss_scale="dynamic")


def test_without_a_scale_the_loss_is_as_it_is():
    opt = optim.SGD(1.0, bo.TrainVar(1.0))

    assert opt.scale_loss(3.0) == 3.0
    assert float(optim.SGD(1.0, loss_scale="dynamic").scale_loss(1.0)) == 2.0**16
