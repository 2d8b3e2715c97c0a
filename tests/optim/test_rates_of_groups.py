# SPDX-License-Identifier: Apache-2.0
"""The rates of groups under a schedule, counts to begin at, and signs of rates."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim
Bad = bo.errors.HyperparameterError


def _var():
    return bo.TrainVar(jnp.zeros(1))


# Written out: torch's factor after each count, of a rate of 0.1.
COSINE = [(1 + np.cos(np.pi * t / 10)) / 2 for t in range(5)]
FACTORS = {
    "cosine": (lambda: optim.CosineAnnealingLR(0.1, 10, clock="step"), COSINE),
    "step": (lambda: optim.StepLR(0.1, 2, 0.5, clock="step"), [1, 1, 0.5, 0.5, 0.25]),
    "exponential": (lambda: optim.ExponentialLR(0.1, 0.9), [0.9**0] * 5),
    "lambda": (lambda: optim.LambdaLR(0.1, lambda t: 1 / (1 + t)), [1, 1 / 2, 1 / 3]),
}


@pytest.mark.parametrize("way", ["params", "groups"])
@pytest.mark.parametrize("kind", FACTORS)
def test_a_group_with_a_rate_of_its_own_follows_the_schedule(kind, way):
    make, factors = FACTORS[kind]
    a, b = _var(), _var()
    if way == "params":
        groups = [{"params": {"a": a}}, {"params": {"b": b}, "lr": 0.01}]
        opt = optim.SGD(make(), groups)
    else:
        rules = [{"match": "b", "lr": 0.01}]
        opt = optim.SGD(make(), {"a": a, "b": b}, groups=rules)
    moved = np.zeros(2)
    for factor in factors:
        opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})
        moved -= np.array([0.1, 0.01]) * factor

    np.testing.assert_allclose([a.value[0], b.value[0]], moved, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "factor"), [({"lr_mult": 0.1}, 0.5), ({"lr": optim.Constant(0.01)}, 1.0)]
)
def test_a_multiple_and_a_fixed_rate_can_both_be_said(given, factor):
    a, b = _var(), _var()
    schedule = optim.StepLR(0.1, 1, 0.5, clock="step")
    opt = optim.SGD(schedule, {"a": a, "b": b}, groups=[{"match": "b", **given}])
    opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})
    before = float(b.value[0])
    opt.update({"a": jnp.ones(1), "b": jnp.ones(1)})

    assert before - float(b.value[0]) == pytest.approx(0.01 * factor)


UPDATES = {
    "OneCycleLR": lambda **k: optim.OneCycleLR(0.1, 12, **k),
    "LinearLR": lambda **k: optim.LinearLR(0.1, clock="step", **k),
    "LambdaLR": lambda **k: optim.LambdaLR(0.1, lambda t: 1 / (1 + t), **k),
    "CyclicLR": lambda **k: optim.CyclicLR(0.01, 0.1, **k),
    "CosineAnnealingLR": lambda **k: optim.CosineAnnealingLR(
        0.1, 10, clock="step", **k
    ),
    "StepLR": lambda **k: optim.StepLR(0.1, 2, 0.5, clock="step", **k),
    "ExponentialDecayLR": lambda **k: optim.ExponentialDecayLR(0.1, 3, 0.5, **k),
    "NoamLR": lambda **k: optim.NoamLR(0.1, 16, 4, **k),
}


@pytest.mark.parametrize("name", UPDATES)
def test_last_epoch_begins_a_schedule_of_updates_there(name):
    make = UPDATES[name]
    opt = optim.SGD(make(last_epoch=5), _var())

    rates = [float(opt.current_lr)]
    opt.update(jnp.ones(1))
    rates.append(float(opt.current_lr))

    expected = [float(make()(6)), float(make()(7))]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_two_counts_to_begin_at_are_refused():
    with pytest.raises(Bad, match="both last_epoch=5 and last_call=3"):
        optim.ExponentialDecayLR(0.1, 3, 0.5, last_epoch=5, last_call=3)


NEGATIVE = {
    "number": lambda: -0.1,
    "array": lambda: jnp.asarray(-0.1),
    "Variable": lambda: bo.Variable(jnp.asarray(-0.1)),
    "callable": lambda: lambda step: -0.1,
    "of the step": lambda: lambda step: -1.0 / (1 + step),
    "LambdaLR": lambda: optim.LambdaLR(0.1, lambda t: -1.0),
    "MultiplicativeLR": lambda: optim.MultiplicativeLR(0.1, lambda t: -0.9),
    "inside of another": lambda: optim.Warmup(lambda step: -0.1, 4),
    "a last rate": lambda: optim.PolynomialDecayLR(0.1, 10, -0.1),
    "one of a list": lambda: optim.PiecewiseConstantLR([2], [0.2, -0.1]),
}


@pytest.mark.parametrize("kind", NEGATIVE)
def test_a_negative_rate_is_refused(kind):
    with pytest.raises(Bad, match=r"-0\.1 is not in|returns -"):
        optim.SGD(NEGATIVE[kind](), _var())


@pytest.mark.parametrize("door", ["load_state_dict", "restore"])
@pytest.mark.parametrize(
    ("key", "number"), [("schedule.numbers.lr", -0.1), ("numbers.beta1", 1.5)]
)
def test_no_number_out_of_its_range_comes_from_a_file(door, key, number):
    opt = optim.AdamW(0.1, _var())
    key = f"groups.default.{key}"
    state = {**opt.state_dict(), key: jnp.asarray(number)}
    refused = bo.errors.StateDictError, bo.errors.CheckpointMismatchError
    before = float(opt.lr), float(opt.beta1)

    with pytest.raises(refused, match=rf"{key}: {number:g} is not in \[0, "):
        if door == "restore":
            data = bo.checkpoint.dumps({"opt": state})
            bo.checkpoint.restore(data, {"opt": opt}, strict=False)
        else:
            opt.load_state_dict(state)

    assert (float(opt.lr), float(opt.beta1)) == before


@pytest.mark.parametrize("dialect", ["torch", "brainpy", "optax", "keras"])
def test_adam_takes_every_dialect_of_adamw(dialect):
    one, two = bo.TrainVar(jnp.ones(3)), bo.TrainVar(jnp.ones(3))
    adam = optim.Adam(0.1, one, eps=0.1, dialect=dialect)
    adamw = optim.AdamW(0.1, two, eps=0.1, weight_decay=0.0, dialect=dialect)
    for t in range(1, 4):
        for opt in (adam, adamw):
            opt.update(jnp.array([0.5, -2.0, 1e-3]) * t)

    np.testing.assert_array_equal(one.value, two.value)


def test_the_penalty_of_adam_is_in_the_gradient_in_every_dialect():
    """BrainPy's epsilon, in float64 NumPy."""
    w = bo.TrainVar(jnp.ones(1))
    opt = optim.Adam(0.1, w, eps=0.1, weight_decay=0.5, dialect="brainpy")
    m = v = 0.0
    x = 1.0
    for t in range(1, 4):
        opt.update(jnp.ones(1))
        g = 1.0 + 0.5 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        root = (np.sqrt(v) + 0.1) / np.sqrt(1 - 0.999**t)
        x -= 0.1 * m / (1 - 0.9**t) / root

    np.testing.assert_allclose(float(w.value[0]), x, rtol=1e-5)


def test_as_optax_ignores_what_it_does_not_know():
    tx, params = optim.AdamW(0.1).as_optax(), {"w": jnp.ones(2)}

    updates, _ = tx.update(params, tx.init(params), params, value=1.0)

    np.testing.assert_allclose(updates["w"], -0.101, rtol=1e-5)
