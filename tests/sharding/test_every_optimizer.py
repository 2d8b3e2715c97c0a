# SPDX-License-Identifier: Apache-2.0
"""Every optimizer divided over devices steps as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.errors import HyperparameterError, ShardingError
from tests.optim.members import each
from tests.sharding.nets import Net, at, data, largest_part, mesh_of, step_of

WAYS = {
    "DP": ({}, {}),
    "ZeRO-1": ({}, {"zero": "data"}),
    "FSDP": ({"fsdp": "data", "min_size": 0}, {}),
}


def losses(member, mesh, rules, options):
    net = Net()
    if mesh is not None:
        bo.sharding.shard(net, mesh, **rules)
    opt = member.make(net.train_vars(), **options)
    batch = data()
    if member.cls is bo.optim.LBFGS:  # it searches along a line by the loss
        step = bo.jit(lambda x, y: opt.step(lambda: jnp.mean((net(x) - y) ** 2)))
    else:
        step = step_of(net, opt)
    if mesh is not None:
        batch = jax.device_put(batch, at(mesh, "data"))
    return [float(step(*batch)) for _ in range(3)], net, opt


@pytest.fixture(scope="module")
def alone():
    found = {}

    def of(member):
        if member.name not in found:
            found[member.name] = losses(member, None, {}, {})[0]
        return found[member.name]

    return of


@pytest.mark.more
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.long), 8])
@pytest.mark.parametrize(("rules", "options"), WAYS.values(), ids=WAYS)
@each(few=True)
def test_it_steps_as_on_one_device(member, rules, options, count, alone):
    mesh = mesh_of(count, devices=jax.devices()[:count])
    found, net, opt = losses(member, mesh, rules, options)

    assert found == pytest.approx(alone(member), abs=1e-6)
    whole = P() if not rules else P(None, "data")
    assert net.l1.W.value.sharding.is_equivalent_to(at(mesh, *whole), 2)
    if options:
        state = opt.vars().unique().values()
        divided = [v for v in state if np.shape(v.value)[-2:] == (32, 64)]
        assert all(largest_part(v) == v.value.nbytes // count for v in divided)


WRAPPERS = {
    "SAM": lambda v, **o: bo.optim.SAM(bo.optim.SGD(0.1, v, momentum=0.9, **o)),
    "Lookahead": lambda v, **o: bo.optim.Lookahead(bo.optim.AdamW(1e-2, v, **o), 2),
    "both": lambda v, **o: bo.optim.SAM(WRAPPERS["Lookahead"](v, **o)),
}


@pytest.mark.more
@pytest.mark.parametrize(("rules", "options"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_steps_as_on_one_device(make, rules, options):
    mesh, net, alone = mesh_of(8), Net(), Net()
    bo.sharding.shard(net, mesh, **rules)
    nets = {net: make(net, **options), alone: make(alone)}

    def step(node, x, y):
        return nets[node].step(lambda: jnp.mean((node(x) - y) ** 2))

    divided = jax.device_put(data(), at(mesh, "data"))
    steps = [bo.jit(step, static_argnums=0) for _ in nets]
    for _ in range(4):
        loss = float(steps[0](net, *divided))
        assert loss == pytest.approx(float(steps[1](alone, *data())), abs=1e-6)

    whole = P() if not rules else P(None, "data")
    assert net.l1.W.value.sharding.is_equivalent_to(at(mesh, *whole), 2)
    if options or rules:
        state = nets[net].vars().unique().values()
        large = [v for v in state if np.shape(v.value)[-2:] == (32, 64)]
        assert large and all(largest_part(v) == v.value.nbytes // 8 for v in large)


def test_options_of_the_constructor_do_what_zero_does():
    mesh, net = mesh_of(8), Net()
    bo.sharding.shard(net, mesh)

    opt = bo.optim.AdamW(1e-2, net, zero="data", offload="pinned_host")

    moments = opt.slots["l1.W"]["m"].value
    assert (opt.zero, opt.offload) == ("data", "pinned_host")
    assert moments.sharding.spec == P(None, "data")
    assert moments.sharding.memory_kind == "pinned_host"
    assert net.l1.W.value.sharding.spec == P()


def test_variables_that_are_added_later_are_divided_too():
    mesh, net = mesh_of(8), Net()
    bo.sharding.shard(net, mesh)
    opt = bo.optim.AdamW(1e-2, zero="data")

    opt.register_train_vars(net.l1.train_vars())

    assert opt.slots["W"]["m"].value.sharding.spec == P(None, "data")


def test_offload_alone_needs_no_mesh():
    w = bo.TrainVar(np.ones((4, 4), "f4"))
    opt = bo.optim.AdamW(1e-2, w, offload="pinned_host")

    bo.jit(lambda: opt.update(w.value))()

    (moments,) = {s["m"].value.sharding.memory_kind for s in opt.slots.values()}
    assert moments == "pinned_host"


WRONG = {
    "no mesh": ({"zero": "data"}, ShardingError, "no mesh"),
    "no axis": ({"zero": "row"}, ShardingError, "no axis 'row'"),
    "no memory": ({"offload": "disk"}, ShardingError, "'disk' is no memory"),
    "a slip": ({"zeros": "data"}, (TypeError, HyperparameterError), "zero"),
}


@pytest.mark.parametrize(("options", "error", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_named_and_nothing_is_registered(options, error, says):
    net = Net()
    if "no mesh" not in says:
        bo.sharding.shard(net, mesh_of(8))
    before = net.l1.W.value

    with pytest.raises(error, match=says):
        bo.optim.AdamW(1e-2, net, **options)
    if error is ShardingError:
        opt = bo.optim.AdamW(1e-2, **options)
        with pytest.raises(ShardingError, match=says):
            opt.register_train_vars(net)
        assert opt.slots == {} and len(opt.vars_to_train) == 0

    assert net.l1.W.value is before
