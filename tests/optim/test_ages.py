# SPDX-License-Identifier: Apache-2.0
"""What is restored has the age it had in the file, everything else its own."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from tests.optim.members import MEMBERS, each

GRADS = {
    "w": jnp.array([[1.0, -2.0], [0.5, 0.1]]),
    "b": jnp.array([0.3, -4.0]),
    "new": jnp.array([-0.2, 1.5]),
}


def _net(*names):
    net = bo.Node()
    for name in names:
        setattr(net, name, bo.TrainVar(jnp.ones_like(GRADS[name])))
    return net


def _steps(opt, number=1, names=None):
    names = names or list(opt.vars_to_train)
    for _ in range(number):
        opt.update({name: GRADS[name] for name in names})


def _file(suffix, folder, net, opt):
    path = folder / f"state{suffix}"
    holder = bo.Node()
    holder.net, holder.opt = net, opt
    checkpoint.save(path, holder if suffix else {"net": net, "opt": opt})
    return path


def _restored(suffix, **how):
    def through(folder, net, opt, new_net, new_opt):
        path = _file(suffix, folder, net, opt)
        into = bo.Node()
        into.net, into.opt = new_net, new_opt
        nodes = into if suffix else {"net": new_net, "opt": new_opt}
        checkpoint.restore(path, nodes, **how)

    return through


def _managed(folder, net, opt, new_net, new_opt):
    with checkpoint.Manager(folder) as manager:
        manager.save(1, {"net": net, "opt": opt})
        manager.wait()
        nodes = {"net": new_net, "opt": new_opt}
        manager.restore(nodes, skip="*.new*")


def _in_memory(folder, net, opt, new_net, new_opt):
    new_net.load_state_dict(net.state_dict(), strict=False, warn=False)
    new_opt.load_state_dict(opt.state_dict(), strict=False, warn=False)


SKIP = {"skip": ["net.new", "opt.slots.new"]}
ROADS = {
    "skip": _restored("", **SKIP),
    "not strict": _restored("", strict=False),
    "bopt": _restored(".bopt", **SKIP),
    "npz": _restored(".npz", **SKIP),
    "safetensors": _restored(".safetensors", **SKIP),
    "Manager": _managed,
    "memory": _in_memory,
}


def _assert_close(net, other, names):
    for name in names:
        mine, theirs = getattr(net, name).value, getattr(other, name).value
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, err_msg=name)


def _check_new_layer(member, road, folder):
    net, alone, into = _net("w", "b"), _net("new"), _net("w", "b", "new")
    opt, fresh, other = (member.make(n) for n in (net, alone, into))
    _steps(opt, 6)

    road(folder, net, opt, into, other)
    _steps(opt, 2), _steps(fresh, 2), _steps(other, 2)

    _assert_close(into, net, ["w", "b"])
    _assert_close(into, alone, ["new"])


@each(whole=False)
def test_a_layer_that_the_file_does_not_have_begins_at_its_own_step_0(member, tmp_path):
    _check_new_layer(member, ROADS["not strict"], tmp_path)


@pytest.mark.more
@pytest.mark.parametrize("road", ROADS)
def test_a_new_layer_is_new_by_every_road(road, tmp_path):
    member = next(m for m in MEMBERS if m.name == "NAdam")
    _check_new_layer(member, ROADS[road], tmp_path)


@each(few=True, whole=False)
def test_a_layer_restored_alone_keeps_its_age(member, tmp_path):
    slots = ["opt.slots.w"] if member.make(_net("w")).slots["w"] else []
    net, into, untouched = _net("w", "b"), _net("w", "b"), _net("b")
    opt, other, fresh = (member.make(n) for n in (net, into, untouched))
    _steps(opt, 6)

    road = _restored("", only=["net.w", *slots])
    road(tmp_path, net, opt, into, other)
    _steps(opt, 2), _steps(other, 2), _steps(fresh, 2)

    _assert_close(into, net, ["w"])
    _assert_close(into, untouched, ["b"])


@each(few=True, whole=False)
def test_a_file_leaves_the_age_of_what_was_trained_here(member, tmp_path):
    net, into = _net("w", "b"), _net("w", "b", "new")
    opt, other, alone = member.make(net), member.make(into), _net("new")
    fresh = member.make(alone)
    _steps(opt, 3), _steps(other, 6), _steps(fresh, 6)

    _restored("", skip="*.new*")(tmp_path, net, opt, into, other)
    _steps(other, 2), _steps(fresh, 2), _steps(opt, 2)

    _assert_close(into, alone, ["new"])
    _assert_close(into, net, ["w", "b"])


def test_ages_that_were_kept_are_saved_again(tmp_path):
    net, into, third = _net("w", "b"), _net("w", "b", "new"), _net("w", "b", "new")
    opts = [bo.optim.AdamW(0.1, n) for n in (net, into, third)]
    _steps(opts[0], 20)
    ROADS["skip"](tmp_path, net, opts[0], into, opts[1])
    _steps(opts[1], 2)

    _restored("")(tmp_path, into, opts[1], third, opts[2])
    _steps(opts[1]), _steps(opts[2])

    _assert_close(third, into, ["w", "b", "new"])


def test_ages_alike_cost_nothing(tmp_path):
    net, into = _net("w", "b"), _net("w", "b")
    opt, other = bo.optim.AdamW(0.1, net), bo.optim.AdamW(0.1, into)
    _steps(opt, 3)

    _restored("")(tmp_path, net, opt, into, other)

    assert other.slots["w"].keys() == {"m", "v"}


def test_a_refused_load_leaves_no_trace(tmp_path):
    net, into = _net("w", "b"), _net("w", "b", "new")
    opt, other = bo.optim.AdamW(0.1, net), bo.optim.AdamW(0.1, into)
    _steps(opt, 3)
    keys = other.state_dict().keys()

    with pytest.raises(bo.errors.CheckpointMismatchError):
        _restored("")(tmp_path, net, opt, into, other)
    with pytest.raises(bo.errors.StateDictError):
        other.load_state_dict(opt.state_dict())

    assert other.state_dict().keys() == keys


def test_what_counts_for_all_variables_at_once_refuses_a_new_one(tmp_path):
    import optax

    net, into = _net("w", "b"), _net("w", "b", "new")
    opt, other = (bo.optim.Optax(optax.adam(0.1), n) for n in (net, into))
    _steps(opt, 3)

    with pytest.raises(bo.errors.CheckpointMismatchError, match="counts the steps of"):
        _restored("", strict=False)(tmp_path, net, opt, into, other)


# --- averages


@pytest.mark.parametrize("road", ["skip", "not strict", "npz", "memory"])
def test_an_average_of_a_new_layer_begins_with_a_short_memory(road, tmp_path):
    net, alone, into = _net("w"), _net("new"), _net("w", "new")
    ema, fresh, other = (bo.optim.EMA(n) for n in (net, alone, into))
    for _ in range(50):
        ema.update()
    how = {"skip": ["net.new", "opt.shadow.new"]}
    roads = ROADS | {"skip": _restored("", **how), "npz": _restored(".npz", **how)}
    roads[road](tmp_path, net, ema, into, other)
    for node in (net, alone, into):
        for variable in node.train_vars().values():
            variable.value = 3.0 * variable.value
    for average in (ema, fresh, other):
        average.update()

    assert float(other.averages()["w"][0, 0]) == float(ema.averages()["w"][0, 0])
    assert float(other.averages()["new"][0]) == float(fresh.averages()["new"][0])


def test_a_variable_averaged_later_has_its_own_warmup():
    net, late = _net("w"), _net("new")
    ema, fresh = bo.optim.EMA(net), bo.optim.EMA(late)
    for _ in range(50):
        ema.update()

    ema.register_train_vars(late)
    late.new.value = 3.0 * late.new.value
    ema.update(), fresh.update()

    assert float(ema.averages()["new"][0]) == float(fresh.averages()["new"][0])
