# SPDX-License-Identifier: Apache-2.0
"""Settings that return find the program that was compiled for them."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.runtime import Revision


class Net(bo.Node):
    def __init__(self):
        self.w, self.b = bo.TrainVar(jnp.ones((4, 3))), bo.TrainVar(jnp.zeros((1, 3)))

    def loss(self):
        return (((jnp.ones((2, 4)) @ self.w) + self.b - 1) ** 2).mean()


def halve(opt, grads):
    return jax.tree.map(lambda g: g / 2, grads)


def double_b(opt):
    opt._trained.variables["b"].value *= 2


def freeze(opt):
    opt.freeze("w")
    return lambda: opt.unfreeze("w")


def set_mask(opt):
    opt.mask = "w"
    return lambda: setattr(opt, "mask", None)


def climb(opt):
    opt.maximize = True
    return lambda: setattr(opt, "maximize", False)


CHANGES = {
    "frozen": freeze,
    "hook before": lambda opt: opt.before_update(halve),
    "hook after": lambda opt: opt.after_update(double_b),
    "mask": set_mask,
    "maximize": climb,
}


def compiled(opt, net):
    return bo.jit(lambda: opt.step(net.loss))


def eager(opt, net):
    grad = bo.jit(bo.grad(net.loss, net.vars()))

    def step():
        grads = grad()
        opt.update({k: None if k in opt.frozen else g for k, g in grads.items()})

    return step


WAYS = {"compiled": compiled, "eager": eager}


def run(change, way, rounds):
    """Change the setting and back, with steps between; return weights and compiles."""
    net = Net()
    opt = bo.optim.AdamW(0.1, net)
    step = WAYS[way](opt, net)
    for number in range(rounds):
        if number == 2:
            counter = count_compiles()
        undo = CHANGES[change](opt)
        step()
        undo()
        step()
    return net, counter()


def count_compiles():
    seen = []

    def listen(event, _, **__):
        seen.append("backend_compile" in event)

    jax.monitoring.register_event_duration_secs_listener(listen)

    def done():
        jax.monitoring.unregister_event_duration_listener(listen)
        return sum(seen)

    return done


@pytest.mark.more
@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_that_returns_compiles_nothing(change):
    nets, compiles = zip(*(run(change, way, 5) for way in WAYS), strict=True)
    assert compiles == (0, 0)
    for values in zip(*(net.vars().values() for net in nets), strict=True):
        np.testing.assert_allclose(*(v.value for v in values), rtol=1e-5)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("changed_before", [False, True])
def test_a_trial_brings_settings_back(change, changed_before):
    net = Net()
    opt = bo.optim.AdamW(0.1, net)
    undo = CHANGES[change](opt) if changed_before else None
    seen = opt.frozen, getattr(opt.mask, "where", None), opt.maximize
    with opt.trial():
        (undo if changed_before else lambda: CHANGES[change](opt))()
        opt.step(net.loss)
    assert (opt.frozen, getattr(opt.mask, "where", None), opt.maximize) == seen
    np.testing.assert_array_equal(net.w.value, np.ones((4, 3)))


def test_a_trial_brings_dropped_slots_back():
    net = Net()
    opt = bo.optim.AdamW(0.1, net)
    opt.step(net.loss)
    before = jax.tree.map(np.asarray, opt.state_dict())
    with opt.trial():
        opt.freeze("w", drop_slots=True)
        opt.step(net.loss)
    after = opt.state_dict()
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    assert opt.frozen == ()


class TestRevision:
    def test_equal_settings_have_equal_numbers(self):
        revision = Revision()
        revision.note("a", 1)
        first = revision.count
        revision.note("a", 2)
        assert revision.count != first
        revision.note("a", 1)
        assert revision.count == first

    @pytest.mark.parametrize("other", [1.0, True, (1,), "1", None])
    def test_values_that_python_takes_for_equal_are_told_apart(self, other):
        revision = Revision()
        revision.note("a", 1)
        first = revision.count
        revision.note("a", other)
        assert revision.count != first

    @pytest.mark.parametrize("change", [Revision.changed, lambda r: r.note("b", [])])
    def test_no_earlier_number_returns_after_a_change_without_a_value(self, change):
        revision = Revision()
        revision.note("a", 1)
        first = revision.count
        change(revision)
        revision.note("a", 2)
        revision.note("a", 1)
        assert revision.count != first and first < revision.since <= revision.count

    def test_the_combinations_that_it_keeps_are_few(self):
        revision = Revision()
        for _ in range(1000):
            revision.note("hooks", (lambda: None,))
        assert len(revision._known) <= 16


def test_a_snapshot_goes_back_to_the_device_of_now():
    here, there = jax.devices()[:2]
    net = Net()
    opt = bo.optim.AdamW(0.1, net)
    opt.to(here)
    snapshot = opt.snapshot()
    opt.freeze("w")
    opt.update({"w": None, "b": jnp.ones((1, 3))})
    opt.to(there)
    opt.restore(snapshot)
    assert opt.frozen == ()
    for path, variable in opt.vars().items():
        assert variable.value.devices() == {there}, path
    np.testing.assert_array_equal(net.b.value, np.zeros((1, 3)))


def test_a_snapshot_of_another_optimizer_is_refused_and_writes_nothing():
    nets = Net(), Net()
    mine, other = (bo.optim.AdamW(0.1, net) for net in nets)
    snapshot = other.snapshot()
    other.update({"w": jnp.ones((4, 3)), "b": jnp.ones((1, 3))})
    held = nets[1].state_dict()
    with pytest.raises(bo.errors.StateDictError, match="of another optimizer"):
        mine.restore(snapshot)
    with pytest.raises(bo.errors.StateDictError, match="of another optimizer"):
        copy.deepcopy(other).restore(snapshot)
    for path, value in nets[1].state_dict().items():
        np.testing.assert_array_equal(value, held[path])


@pytest.mark.parametrize("given", [None, {}, "run.bo"])
def test_what_is_no_snapshot_is_refused(given):
    opt = bo.optim.SGD(0.1, bo.TrainVar(1.0))
    with pytest.raises(TypeError, match=r"is no snapshot(.|\n)*opt\.snapshot\(\)"):
        opt.restore(given)
