# SPDX-License-Identifier: Apache-2.0
"""What leaves an optimizer goes by name: any order of groups, another class."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import brainopt as bo
from brainopt.optim._hyperparameters import HyperparamVector

optim = bo.optim
RULES = [{"match": "w", "lr": 0.1}, {"match": "b", "lr": 0.001, "weight_decay": 0.5}]


def _net():
    net = bo.Node()
    net.w, net.b = bo.TrainVar(jnp.ones(2)), bo.TrainVar(jnp.ones(2))
    return net


def _by_file(suffix):
    def through(source, target, folder):
        path = folder / f"state{suffix}"
        source.save_states(path)
        target.load_states(path)

    return through


ROADS = {
    "state dict": lambda a, b, folder: b.load_state_dict(a.state_dict()),
    "own format": _by_file(".bopt"),
    "npz": _by_file(".npz"),
    "safetensors": _by_file(".safetensors"),
}


@pytest.mark.parametrize("road", ROADS)
def test_rules_in_another_order_keep_their_numbers(road, tmp_path):
    saved = optim.SGD(1.0, _net(), groups=RULES)
    fresh = [{"match": rule["match"], "lr": 0.7} for rule in reversed(RULES)]
    other = optim.SGD(0.5, _net(), groups=fresh)

    ROADS[road](saved, other, tmp_path)

    rates = {name: float(group.schedule()) for name, group in other.groups.items()}
    assert rates == pytest.approx({"default": 1.0, "w": 0.1, "b": 0.001})
    assert float(other.groups["b"].weight_decay) == 0.5


@pytest.mark.parametrize("road", ROADS)
def test_a_rule_for_other_variables_is_refused_by_name(road, tmp_path):
    saved = optim.SGD(1.0, _net(), groups=RULES[:1])
    other = optim.SGD(1.0, _net(), groups=RULES[1:])

    with pytest.raises(ValueError, match=r"(?s)groups\.[bw].*groups\.[bw]"):
        ROADS[road](saved, other, tmp_path)


def test_a_group_of_other_members_is_refused(tmp_path):
    path = tmp_path / "o.bopt"
    rule = {"match": lambda path, value: path == "w", "name": "slow", "lr": 0.1}
    optim.SGD(1.0, _net(), groups=[rule]).save_states(path)
    other = optim.SGD(1.0, _net(), groups=[{**rule, "match": "b"}])

    with pytest.raises(bo.errors.CheckpointMismatchError, match=r"groups\.slow"):
        other.load_states(path)


def test_numbers_of_another_class_go_by_name():
    saved = optim.ScheduleFreeAdamW(0.1, _net())
    other = optim.AdamW(0.1, _net(), weight_decay=0.3)

    other.load_state_dict(saved.state_dict(), strict=False, warn=False)

    assert float(other.weight_decay) == 0.0


def test_two_groups_of_one_name_are_refused():
    with pytest.raises(bo.errors.HyperparameterError, match="called 'w'"):
        optim.SGD(0.1, _net(), groups=[{"match": "w"}, {"match": "w", "lr": 0.1}])


@pytest.mark.parametrize("setting", [{"maximize": True}, {"nonfinite": "skip"}])
def test_options_that_change_the_mathematics_are_compared(setting, tmp_path):
    path = tmp_path / "o.bopt"
    optim.SGD(0.1, _net(), **setting).save_states(path)

    with pytest.raises(bo.errors.CheckpointMismatchError, match=next(iter(setting))):
        optim.SGD(0.1, _net()).load_states(path)


@given(st.floats(1e-6, 1 - 1e-6))
def test_one_number_brings_back_a_decay_rate_to_the_bit(beta):
    vector = HyperparamVector({"beta": beta}, ("beta",), "a test")
    ((_, number),) = vector._entries(vector.value)

    again = HyperparamVector({"beta": float(number)}, ("beta",), "a test")

    np.testing.assert_array_equal(again.value, vector.value)


def test_numbers_read_as_they_were_written():
    state = optim.AdamW(1e-3, _net(), beta1=0.95).state_dict()

    assert float(state["groups.default.numbers.beta1"]) == 0.95
    assert float(state["groups.default.schedule.numbers.lr"]) == 1e-3
