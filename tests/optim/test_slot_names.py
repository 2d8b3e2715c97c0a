# SPDX-License-Identifier: Apache-2.0
"""One name of a slot means one quantity, whichever optimizer keeps it."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.optim.members import MEMBERS, each

G = np.array([[0.5, -2.0], [1.5, 0.25]])
# What each slot becomes under a constant gradient, with decay rates of 1/2.
MEANING = {
    "m": lambda before, after: G,
    "v": lambda before, after: G**2,
    "v_max": lambda before, after: G**2,
    "n": lambda before, after: G**2,
    "variance": lambda before, after: 0 * G,
    "change": lambda before, after: 0 * G,
    "prev": lambda before, after: G,
    "b": lambda before, after: G / (1 - 0.5),
    "mean": lambda before, after: G,
    "u": lambda before, after: np.abs(G),
    "velocity": lambda before, after: after - before,
    "row": lambda before, after: (G**2).mean(axis=1),
    "col": lambda before, after: (G**2).mean(axis=0),
}
# Quantities that one class alone has; what they are stands there.
OWN = {"d", "s", "product", "buffer", "size", "average", "mean_update"}
OWN |= {"z", "most", "total", "beta1", "axis0", "axis1"}
HALF = ("beta", "beta1", "beta2", "beta3", "rho", "momentum", "weight_decay")


@each(whole=False, but=(bo.optim.SparseAdam, bo.optim.Adafactor))
def test_a_slot_is_what_its_name_says(member):
    opt = member.cls(**_settings(member))
    params = {"w": jnp.ones((2, 2))}
    state = opt.init(params)
    for _ in range(40):
        before = params
        params, state = opt.apply(params, state, {"w": jnp.asarray(G, jnp.float32)})

    for name, value in state["slots"]["w"].items():
        if name in MEANING:
            expected = MEANING[name](np.asarray(before["w"]), np.asarray(params["w"]))
            np.testing.assert_allclose(value, expected, atol=2e-5, err_msg=name)


def _settings(member):
    known = member.cls._declared.arguments
    numbers = {k: 0.5 for k in HALF if k in known} | {"lr": 1e-3}
    numbers |= {"weight_decay": 0.0} if "weight_decay" in known else {}
    more = {
        "Yogi": {"initial_accumulator_value": 0.0},
        "Adan": {"betas": (0.5, 0.5, 0.5)},
        "SGD": {"dampening": 0.0},
    }
    return {**member.settings, **numbers, **more.get(member.cls.__name__, {})}


def test_every_slot_has_one_meaning_or_one_owner():
    owners = {}
    for member in MEMBERS:
        opt = member.cls(**{**member.settings, "lr": 0.1})
        for shape in ((2, 2), (2,)):
            slots = opt.init({"w": jnp.ones(shape)})["slots"].get("w", {})
            for name in slots:
                owners.setdefault(name, set()).add(member.cls)
    shared = {name for name, classes in owners.items() if len(classes) > 1}

    assert owners.keys() <= MEANING.keys() | OWN
    assert shared <= MEANING.keys()


# Classes that keep a slot of one name, with one decay rate.
SHARING = {
    "velocity": ["Momentum", "MomentumNesterov"],
    "m": ["Adam", "AdamW", "NAdam", "RAdam", "AdaBelief", "Yogi", "Lamb", "Adamax"],
    "v": ["Adam", "AdamW", "NAdam", "RAdam", "Lamb"],
}
FIRST_ZERO = {"Yogi": {"initial_accumulator_value": 0.0}}
PAIRS = [(slot, name) for slot, names in SHARING.items() for name in names[1:]]


@pytest.mark.parametrize(("slot", "name"), PAIRS)
def test_two_classes_give_one_slot_the_same_numbers(slot, name):
    """The gradients differ from step to step, so a mean of others would be seen."""
    found = []
    for cls in (SHARING[slot][0], name):
        opt = getattr(bo.optim, cls)(0.1, **FIRST_ZERO.get(cls, {}))
        params = {"w": jnp.ones((2, 2))}
        state = opt.init(params)
        for scale in (1.0, -0.5, 3.0, 0.25):
            grads = {"w": jnp.asarray(scale * G, jnp.float32)}
            params, state = opt.apply(params, state, grads)
        found.append(state["slots"]["w"][slot])

    np.testing.assert_allclose(*found, rtol=1e-6)


def test_a_velocity_goes_from_momentum_to_nesterov(tmp_path):
    """Both add μ v - γ g to it: the sum of past gradients that moves the variable."""
    w = bo.TrainVar(jnp.ones(2))
    saved = bo.optim.Momentum(0.1, {"w": w}, momentum=0.5)
    saved.update({"w": jnp.array([1.0, -2.0])})
    saved.save_states(tmp_path / "o.bopt")
    there = bo.TrainVar(w.value)
    opt = bo.optim.MomentumNesterov(0.1, {"w": there}, momentum=0.5)
    with pytest.raises(bo.errors.CheckpointMismatchError, match="class"):
        opt.load_states(tmp_path / "o.bopt")

    opt.load_states(tmp_path / "o.bopt", strict=False)
    opt.update({"w": jnp.array([1.0, -2.0])})

    velocity = 0.5 * np.array([-0.1, 0.2]) + np.array([-0.1, 0.2])
    np.testing.assert_allclose(opt.slots["w"]["velocity"], velocity, rtol=1e-6)
    moved = 0.5 * velocity + np.array([-0.1, 0.2])
    np.testing.assert_allclose(there.value, w.value + moved, rtol=1e-6)
