# SPDX-License-Identifier: Apache-2.0
"""The place of a Variable: kept by every write, changed by a move alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.sharding.nets import Net, at, data, largest_part, mesh_of, step_of


def placed(*spec, value=None, **options):
    v = bo.Variable(jnp.ones((64, 8)) if value is None else value)
    v.value = jax.device_put(v.value, at(mesh_of(8), *spec, **options))
    return v


def owner(v):
    node = bo.Node()
    node.v = v
    return node


def reset(v):
    v.value = jnp.zeros((64, 8))


WRITES = {
    "eager array": reset,
    "eager numpy": lambda v: setattr(v, "value", np.zeros((64, 8), np.float32)),
    "item": lambda v: v.__setitem__(slice(None), 0.0),
    "update": lambda v: v.update(jnp.zeros((64, 8))),
    "other place": lambda v: setattr(
        v, "value", jax.device_put(jnp.zeros((64, 8)), at(mesh_of(8)))
    ),
    "jit": lambda v: bo.jit(lambda: reset(v))(),
    "jit, safe": lambda v: bo.jit(lambda: reset(v), safe=True)(),
    "jit, not donated": lambda v: bo.jit(lambda: reset(v), donate=False)(),
    "jit in jit": lambda v: bo.jit(lambda: bo.jit(lambda: reset(v))())(),
    "jit, out_shardings": lambda v: bo.jit(
        lambda: (reset(v), jnp.ones(8))[1], out_shardings=at(mesh_of(8), "data")
    )(),
    "for_loop": lambda v: bo.for_loop(lambda i: reset(v), jnp.arange(3)),
    "cond": lambda v: bo.cond(jnp.array(True), lambda: reset(v), lambda: None),
    "load": lambda v: owner(v).load_state_dict({"v": np.zeros((64, 8), np.float32)}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_keeps_the_place(write):
    v = placed("data")

    write(v)

    assert v.value.sharding.is_equivalent_to(at(mesh_of(8), "data"), 2)
    assert largest_part(v) == 64 * 8 * 4 // 8
    assert not np.asarray(v.value).any()


def test_a_pytree_keeps_the_place_of_each_leaf():
    mesh = mesh_of(8)
    tree = {"a": jnp.ones(8), "key": jax.random.split(jax.random.key(0), 8)}
    v = bo.Variable(jax.tree.map(lambda x: jax.device_put(x, at(mesh, "data")), tree))
    whole = bo.Variable(jax.device_put(jax.random.key(1), at(mesh)))

    @bo.jit
    def step():
        keys = jax.random.split(jax.random.key(2), 8)
        v.value = {"a": jnp.zeros(8), "key": keys}
        whole.value = jax.random.key(3)

    step(), step()
    assert v.value["a"].sharding == at(mesh, "data")
    assert v.value["key"].sharding.is_equivalent_to(at(mesh, "data"), 1)
    assert whole.value.sharding.is_equivalent_to(at(mesh), 0)


def test_the_numbers_of_an_optimizer_keep_the_place():
    net = Net()
    opt = bo.optim.AdamW(1e-2, net.train_vars())
    opt.to(at(mesh_of(8)))

    opt.lr = 1e-3

    places = {v.value.sharding for v in opt.vars().unique().values()}
    assert {place.spec for place in places} == {at(mesh_of(8)).spec}


@pytest.mark.more
@pytest.mark.parametrize("kind", ["auto", "explicit"])
@pytest.mark.parametrize("make", [bo.optim.SGD, bo.optim.AdamW], ids=["SGD", "AdamW"])
def test_moments_divided_over_devices_leave_the_weights_whole(kind, make):
    alone, net = Net(), Net()
    mesh = mesh_of(8, kind=kind)
    options = {"momentum": 0.9} if make is bo.optim.SGD else {}
    reference = make(1e-2, alone.train_vars(), **options)
    net.to(at(mesh))
    opt = make(1e-2, net.train_vars(), **options)
    opt.to(at(mesh), params=False)
    slots = {k: v for k, v in opt.vars().unique().items() if v.value.ndim == 2}
    for v in slots.values():
        if v.value.shape in [(32, 64), (64, 16)]:
            v.to(at(mesh, "data"))
    step, expected = step_of(net, opt), step_of(alone, reference)
    x, y = data()
    batch = jax.device_put((x, y), at(mesh, "data"))

    for _ in range(10):
        assert float(step(*batch)) == pytest.approx(float(expected(x, y)), abs=2e-7)

    assert net.l1.W.value.sharding.is_equivalent_to(at(mesh), 2)
    moved = [v for v in slots.values() if v.value.shape == (32, 64)]
    assert moved
    assert {largest_part(v) for v in moved} == {32 * 64 * 4 // 8}
    np.testing.assert_allclose(net.l1.W.value, alone.l1.W.value, atol=2e-7)


def test_only_a_move_or_the_first_place_changes_it():
    mesh = mesh_of(8)
    v = placed("data")
    v.value = jax.device_put(jnp.ones((64, 8)), at(mesh, None, "data"))
    assert v.value.sharding == at(mesh, "data")

    v.to(at(mesh, None, "data"))
    bo.jit(lambda: reset(v))()

    assert v.value.sharding == at(mesh, None, "data")


def test_a_program_follows_a_move():
    mesh = mesh_of(8)
    v = placed("data")
    step = bo.jit(lambda: reset(v))
    step()

    v.to(at(mesh, None, "data"))
    step()

    assert v.value.sharding == at(mesh, None, "data")


def test_a_program_is_compiled_once_for_its_places():
    v, traces = placed("data"), []

    @bo.jit
    def step():
        traces.append(1)
        v.value = v.value + 1

    for _ in range(5):
        step()
    assert len(traces) <= 2  # discovery, and the program
    assert float(v.value[0, 0]) == 6.0


@pytest.mark.parametrize("kind", ["pinned_host", "unpinned_host"])
def test_the_kind_of_memory_is_kept_and_the_numbers_are_equal(kind):
    v = placed("data", memory_kind=kind)
    step = bo.jit(lambda: setattr(v, "value", v.value * 2 + 1))

    step(), step()

    assert v.value.sharding.memory_kind == kind
    np.testing.assert_array_equal(jax.device_get(v.value), np.full((64, 8), 7.0))


def test_a_value_that_cannot_be_divided_so_is_refused():
    v = bo.Variable(jnp.ones((8, 4)), batch_axis=0)
    v.value = jax.device_put(v.value, at(mesh_of(8), "data"))

    with pytest.raises(ValueError, match="divide"):
        v.value = jnp.ones((7, 4))

    assert v.value.shape == (8, 4)


def test_random_numbers_are_equal_on_one_and_on_eight_devices():
    here, there = bo.RandomState(3), bo.RandomState(3)
    there.to(at(mesh_of(8)))
    draw = bo.jit(lambda: there.normal((4,)))

    np.testing.assert_array_equal(here.normal((4,)), draw())
