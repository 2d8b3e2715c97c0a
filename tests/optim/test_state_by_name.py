# SPDX-License-Identifier: Apache-2.0
"""What leaves an optimizer goes by name: any order of groups, another class."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import brainopt as bo
from brainopt.optim.hyperparameters._numbers import HyperparamVector

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


def _resumed(saved, other, tmp_path):
    manager = bo.checkpoint.Manager(tmp_path, async_=False)
    manager.save(1, saved)
    manager.close()
    return manager.resume(other)


REPORTS = {
    "load_state_dict": lambda a, b, tmp_path: b.load_state_dict(a.state_dict()),
    "load_states": lambda a, b, tmp_path: (
        a.save_states(tmp_path / "o.bopt"),
        b.load_states(tmp_path / "o.bopt"),
    )[1],
    "resume": _resumed,
}


@pytest.mark.parametrize("way", REPORTS)
def test_the_numbers_of_the_file_hold_and_the_report_says_so(way, tmp_path):
    def made(lr, beta1, step_size, rate):
        schedule = optim.StepLR(lr, step_size, clock="step")
        rules = [{"match": "b", "lr": rate}]
        return optim.AdamW(schedule, _net(), beta1=beta1, groups=rules)

    saved, other = made(0.2, 0.5, 3, 0.1), made(0.4, 0.5, 7, 0.1)

    report = REPORTS[way](saved, other, tmp_path)

    at = "groups.default.schedule.numbers"
    assert report.numbers == {f"{at}.lr": (0.4, 0.2), f"{at}.step_size": (7.0, 3.0)}
    assert (float(other.lr.lr), float(other.lr.step_size)) == pytest.approx((0.2, 3))
    assert way == "resume" or not report


# --- tied weights found by another first path


def _tied(first, second, nested=False):
    net = bo.Node()
    part = bo.Node() if nested else bo.TrainVar(jnp.ones(2))
    if nested:
        part.W = bo.TrainVar(jnp.ones(2, jnp.bfloat16))
    setattr(net, first, part)
    setattr(net, second, part)
    return net


TIED = {
    "AdamW": lambda net: optim.AdamW(0.1, net, groups=[{"match": "*", "name": "all"}]),
    "master": lambda net: optim.SGD(0.1, net, momentum=0.9, precision="master"),
    "Lookahead": lambda net: optim.Lookahead(optim.Adam(0.1, net)),
    "Optax": lambda net: optim.Optax(optax.adam(0.1), net),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", TIED)
@pytest.mark.parametrize("road", ROADS)
def test_moments_follow_the_alias_as_weights_do(road, kind, nested, tmp_path):
    net, into = _tied("emb", "head", nested), _tied("head", "emb", nested)
    opt, other = TIED[kind](net), TIED[kind](into)
    grads = {path: jnp.ones(2) for path in opt.vars_to_train}
    opt.update(grads)
    if nested and road in ("npz", "safetensors") and kind != "master":
        road = "state dict"  # the table has each road once

    ROADS[road](opt, other, tmp_path)

    mine, theirs = opt.state_dict(), other.state_dict()
    assert [str(v) for v in mine.values()] == [str(v) for v in theirs.values()]
    assert any("head" in key for key in theirs)


def test_averages_follow_the_alias():
    net, into = _tied("emb", "head"), _tied("head", "emb")
    ema, other = optim.EMA(net), optim.EMA(into)
    net.emb.value = jnp.zeros(2)
    ema.update()

    other.load_state_dict(ema.state_dict())

    assert float(other.averages()["head"][0]) == float(ema.averages()["emb"][0])


# --- what is compared is what was chosen


def _stepped(opt):
    opt.update({"w": jnp.ones(2), "b": jnp.ones(2)})
    return opt


OTHER = {
    "schedule": lambda net: optim.AdamW(optim.StepLR(0.1, 3), net),
    "frozen": lambda net: _frozen(optim.AdamW(0.1, net)),
    "mask": lambda net: optim.AdamW(0.1, net, mask="w"),
    "maximize": lambda net: optim.AdamW(0.1, net, maximize=True),
    "group": lambda net: optim.AdamW(0.1, net, groups=[{"match": "w", "lr": 1.0}]),
}


def _frozen(opt):
    opt.freeze("w")
    return opt


@pytest.mark.parametrize("other", OTHER)
def test_settings_that_were_not_chosen_do_not_stand_in_the_way(other, tmp_path):
    path = tmp_path / "o.bopt"
    saved = _stepped(optim.AdamW(0.1, _net()))
    bo.checkpoint.save(path, {"opt": saved})
    into = OTHER[other](_net())
    with pytest.raises(bo.errors.CheckpointMismatchError):
        bo.checkpoint.restore(path, {"opt": into})

    bo.checkpoint.restore(path, {"opt": into}, only=["opt.step", "opt.slots"])

    assert float(into.slots["b"]["m"].value[0]) == float(saved.slots["b"]["m"].value[0])


@pytest.mark.parametrize("name", ["frozen", "mask", "maximize"])
def test_one_setting_is_left_out_by_its_name(name, tmp_path):
    path = tmp_path / "o.bopt"
    bo.checkpoint.save(path, {"opt": _stepped(optim.AdamW(0.1, _net()))})

    bo.checkpoint.restore(path, {"opt": OTHER[name](_net())}, skip=f"opt.{name}")


def test_another_class_is_refused_unless_it_is_left_out_by_name(tmp_path):
    path = tmp_path / "o.bopt"
    bo.checkpoint.save(path, {"opt": _stepped(optim.NAdam(0.1, _net()))})
    into, chosen = optim.AdamW(0.1, _net()), ["opt.step", "opt.slots.*.[mv]"]

    with pytest.raises(bo.errors.CheckpointMismatchError, match=r"opt\.class"):
        bo.checkpoint.restore(path, {"opt": into}, only=chosen)
    bo.checkpoint.restore(path, {"opt": into}, only=chosen, skip="opt.class")

    assert float(into.slots["w"]["m"].value[0]) == pytest.approx(0.1)


def test_an_optimizer_inside_a_node_is_compared_too(tmp_path):
    path, nodes = tmp_path / "o.bopt", [bo.Node(), bo.Node()]
    nodes[0].opt = optim.SGD(0.1, _net())
    nodes[1].opt = optim.SGD(0.1, _net(), maximize=True)
    nodes[0].save_states(path)

    with pytest.raises(bo.errors.CheckpointMismatchError, match=r"opt\.maximize"):
        nodes[1].load_states(path)
