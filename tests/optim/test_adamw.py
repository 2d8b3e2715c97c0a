# SPDX-License-Identifier: Apache-2.0
"""AdamW answers to its documents: formula, dialects, options, first steps."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim import references
from tests.optim.members import problem

AdamW = bo.optim.AdamW


def _vars(params):
    return {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_equals_the_document_in_float64(amsgrad, eps, x64):
    params, grads = problem(50)
    variables = _vars(params)
    opt = AdamW(0.05, variables, 0.8, 0.95, eps, 0.3, amsgrad)
    step = bo.jit(opt.update)

    for g in grads:
        step({k: jnp.asarray(v) for k, v in g.items()})

    for key, variable in variables.items():
        expected = references.adamw(
            params[key], [g[key] for g in grads], 0.05, 0.8, 0.95, eps, 0.3, amsgrad
        )
        np.testing.assert_allclose(variable.value, expected, rtol=1e-12, atol=1e-12)


def _beside_optax(tx, grads, params, **settings):
    """Take jitted steps with both; return their parameters."""

    @jax.jit
    def peer(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    variables = _vars(params)
    step = bo.jit(AdamW(1e-3, variables, **settings).update)
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    for g in grads:
        g = jax.tree.map(jnp.asarray, g)
        step(g)
        params, state = peer(params, state, g)
    return {k: np.asarray(v.value) for k, v in variables.items()}, params


def test_equals_optax_over_100_jitted_steps():
    params, grads = problem(100, dtype=np.float32)
    tx = optax.adamw(1e-3, weight_decay=1e-2)

    ours, theirs = _beside_optax(tx, grads, params)

    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-6, atol=1e-6)


def test_float32_parameters_equal_optax_under_x64(x64):
    params, grads = problem(20, dtype=np.float32)
    tx = optax.adamw(1e-3, weight_decay=1e-2)

    ours, theirs = _beside_optax(tx, grads, params, dialect="optax")

    for key, value in theirs.items():
        assert ours[key].dtype == np.float32
        np.testing.assert_allclose(ours[key], value, rtol=2e-7)


def _ndim_mask(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (dict(mask="matrices"), dict(mask=_ndim_mask)),
        (dict(mask="b"), dict(mask={"W": False, "b": True})),
        (dict(mask=False), dict(mask={"W": False, "b": False})),
        (
            dict(mask="matrices", nesterov=True, eps_root=1e-6),
            dict(mask=_ndim_mask, nesterov=True, eps_root=1e-6),
        ),
        (dict(nesterov=True), dict(nesterov=True)),
        (dict(eps_root=1e-6), dict(eps_root=1e-6)),
        (dict(mu_dtype=jnp.bfloat16), dict(mu_dtype=jnp.bfloat16)),
        (
            dict(weight_decay=lambda t: 0.1 / (t + 1)),
            dict(weight_decay=lambda t: 0.1 / (t + 1)),
        ),
    ],
    ids=[
        "plain",
        "mask",
        "mask of the other",
        "mask of none",
        "mask, nesterov and eps_root",
        "nesterov",
        "eps_root",
        "mu_dtype",
        "decay schedule",
    ],
)
def test_the_optax_dialect_is_bit_identical_over_100_jitted_steps(ours, theirs):
    params, grads = problem(100, dtype=np.float32)
    tx = optax.adamw(1e-3, **{"weight_decay": 1e-2, **theirs})

    mine, peers = _beside_optax(tx, grads, params, dialect="optax", **ours)

    for key, value in peers.items():
        np.testing.assert_array_equal(mine[key], value)


def test_the_first_steps_are_closer_to_float64_than_a_power():
    params, grads = problem(10)
    w = bo.TrainVar(jnp.asarray(params["W"], jnp.float32))
    opt = AdamW(0.1, w, weight_decay=0.0)

    for g in grads:
        opt.update(jnp.asarray(g["W"], jnp.float32))

    exact = references.adamw(
        params["W"], [g["W"] for g in grads], 0.1, weight_decay=0.0
    )
    assert np.abs(w.value - exact).max() < 6e-7  # 1 - β**t in float32: 5.7e-6


def test_keras_puts_eps_on_the_uncorrected_root(x64):
    w = bo.TrainVar(jnp.ones(1))
    opt = AdamW(0.1, w, 0.9, 0.999, 1e-2, 0.0, dialect="keras")

    opt.update(jnp.full(1, 0.5))

    moved = 0.1 * np.sqrt(0.001) / 0.1 * 0.05 / (np.sqrt(0.001 * 0.25) + 1e-2)
    np.testing.assert_allclose(w.value, 1 - moved, rtol=1e-12)


@pytest.mark.parametrize(
    ("decay_by", "expected"), [("lr", 0.02), ("schedule", 0.1), ("none", 0.2)]
)
def test_what_scales_the_decay(decay_by, expected, x64):
    half = bo.optim.LambdaLR(0.2, lambda t: 0.5)
    w = bo.TrainVar(jnp.ones(1))
    opt = AdamW(half, w, weight_decay=0.2, decay_by=decay_by)

    opt.update(jnp.zeros(1))

    np.testing.assert_allclose(w.value, 1 - expected, rtol=1e-12)


def test_a_callable_has_no_base_to_decay_by():
    with pytest.raises(bo.errors.HyperparameterError, match="LambdaLR"):
        opt = AdamW(lambda t: 0.1, bo.TrainVar(jnp.ones(1)), decay_by="schedule")
        opt.update(jnp.ones(1))


def test_maximize_climbs():
    up, down = bo.TrainVar(jnp.ones(3)), bo.TrainVar(jnp.ones(3))

    AdamW(0.1, up, weight_decay=0.0, maximize=True).update(jnp.ones(3))
    AdamW(0.1, down, weight_decay=0.0).update(-jnp.ones(3))

    np.testing.assert_array_equal(up.value, down.value)
    assert float(up[0]) > 1


def test_complex_variables_follow_the_modulus(x64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=4) + 1j * rng.normal(size=4)
    grads = [rng.normal(size=4) + 1j * rng.normal(size=4) for _ in range(5)]
    w = bo.TrainVar(jnp.asarray(x))
    opt = AdamW(0.1, w)

    for g in grads:
        opt.update(jnp.asarray(g).conj())  # as jax.grad has it

    np.testing.assert_allclose(w.value, references.adamw(x, grads, 0.1), rtol=1e-12)
    assert opt.slots["param"]["v"].value.dtype == jnp.float64


def test_moments_are_stored_as_asked():
    w = bo.TrainVar(jnp.ones(3))

    narrow = dict(mu_dtype=jnp.bfloat16, nu_dtype=jnp.bfloat16)
    opt = AdamW(0.1, w, beta2=0.99, **narrow)
    opt.update(jnp.ones(3))

    slots = opt.slots["param"]
    assert slots["m"].value.dtype == jnp.bfloat16
    assert slots["v"].value.dtype == jnp.bfloat16


# By hand: between 1 and 2 numbers of bfloat16 are 2⁻⁷ apart, so 1 + 2⁻⁷ stands where an
# update takes less than 2⁻⁸ / (1 + 2⁻⁷) = 0.00388 of it; of float16 it is 0.00049.
@pytest.mark.parametrize(
    ("moment", "settings", "stands"),
    [
        ("v", dict(nu_dtype="bfloat16"), True),
        ("v", dict(nu_dtype="bfloat16", beta2=0.9962), True),
        ("v", dict(nu_dtype="bfloat16", beta2=0.9961), False),
        ("m", dict(mu_dtype="bfloat16", beta1=0.999), True),
        ("m", dict(mu_dtype="bfloat16"), False),
        ("m", dict(mu_dtype="float16", beta1=0.9996), True),
        ("m", dict(mu_dtype="float16", beta1=0.999), False),
    ],
)
def test_a_moment_that_rounding_holds_is_told(moment, settings, stands):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        opt = AdamW(0.1, _vars({"a": [1.0], "b": [1.0]}), **settings)

    slot = opt.slots["a"][moment]
    slot.value = jnp.ones_like(slot.value) + jnp.finfo(slot.dtype).eps
    before = float(slot.value[0])
    opt.update({"a": jnp.zeros(1), "b": jnp.zeros(1)})

    assert (float(slot.value[0]) == before) is stands
    assert [f"{moment} in" in str(t.message) for t in told] == [True] * stands


def test_betas_stand_for_both():
    opt = AdamW(0.1, betas=(0.5, 0.6))

    assert (float(opt.beta1), float(opt.beta2)) == pytest.approx((0.5, 0.6))


BAD = [
    dict(lr=float("nan")),
    dict(lr=-0.1),
    dict(lr=float("inf")),
    dict(beta1=1.0),
    dict(beta1=-0.1),
    dict(beta2=float("nan")),
    dict(eps=-1e-8),
    dict(eps=float("inf")),
    dict(weight_decay=-0.1),
    dict(weight_decay=float("nan")),
    dict(decay_by="time"),
    dict(dialect="tensorflow"),
    dict(precision="double"),
    dict(nonfinite="hope"),
    dict(nonfinite="skip", max_nonfinite=0),
    dict(clip_norm=0.0),
    dict(accumulate=0),
    dict(lr="fast"),
    dict(lr=[0.1, 0.2]),
]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(bo.errors.HyperparameterError):
        AdamW(**{"lr": 0.1, **settings})


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(bo.errors.HyperparameterError) as caught:
        AdamW(-1.0, None, 1.5, 0.999, -1e-8)

    text = str(caught.value)
    assert text.startswith("These settings of AdamW are out of range:")
    assert "lr=-1" in text and "beta1=1.5" in text and "eps=-1e-08" in text


def test_swapped_arguments_are_explained():
    w = bo.TrainVar(jnp.ones(1))

    with pytest.raises(bo.errors.HyperparameterError, match=r"AdamW\(lr, train_vars"):
        AdamW({"w": w}, 0.1)
    with pytest.raises(bo.errors.HyperparameterError, match=r"AdamW\(lr, train_vars"):
        AdamW(bo.Node(), 0.1)


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_later_changes_are_checked_too(bad):
    opt = AdamW(0.1)

    for name in ("lr", "eps", "weight_decay", "beta1"):
        with pytest.raises(bo.errors.HyperparameterError, match="AdamW"):
            setattr(opt, name, bad)

    assert float(opt.current_lr) == pytest.approx(0.1)


def test_options_are_fixed():
    opt = AdamW(0.1)

    with pytest.raises(AttributeError, match="amsgrad of AdamW is fixed"):
        opt.amsgrad = True


def test_the_step_saturates():
    w = bo.TrainVar(jnp.ones(3))
    opt = AdamW(0.1, w)
    opt.step.value = jnp.asarray(2**31 - 2, jnp.int32)

    for _ in range(3):
        opt.update(jnp.ones(3))

    assert int(opt.step) == 2**31 - 1
    assert np.isfinite(w.value).all()


def test_a_huge_gradient_leaves_finite_weights():
    w = bo.TrainVar(jnp.ones(3))
    opt = AdamW(0.1, w)

    for size in [1e30] + [1.0] * 20:
        opt.update(jnp.full(3, size))

    assert np.isfinite(w.value).all()


@pytest.mark.more
def test_a_step_can_be_differentiated_through(x64):
    opt = AdamW(0.1, weight_decay=0.0, eps=1e-2)
    params = {"w": jnp.asarray([1.0, -2.0])}
    state = opt.init(params)

    def after(scale):
        moved, _ = opt.apply(params, state, {"w": scale * params["w"]})
        return moved["w"].sum()

    slope = jax.grad(after)(1.0)

    by_hand = (after(1.0 + 1e-6) - after(1.0 - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, by_hand, rtol=1e-6)
