# SPDX-License-Identifier: Apache-2.0
"""`bo.sharding.zero`: state divided, weights whole, numbers of one device."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.errors import ShardingError
from tests.sharding.nets import Net, at, data, largest_part, mesh_of, step_of

MAKES = {
    "SGD": lambda v: bo.optim.SGD(1e-2, v, momentum=0.9),
    "AdamW": lambda v: bo.optim.AdamW(1e-2, v),
    "clip and skip": lambda v: bo.optim.AdamW(1e-2, v, clip_norm=1.0, nonfinite="skip"),
    "accumulate": lambda v: bo.optim.AdamW(1e-2, v, accumulate=2),
}


def trained(make, mesh, **options):
    net = Net()
    bo.sharding.shard(net, mesh)
    opt = make(net.train_vars())
    left = bo.sharding.zero(opt, mesh, **options)
    return net, opt, left


EXPLICIT = pytest.param("explicit", marks=pytest.mark.long)


@pytest.mark.parametrize("kind", ["auto", EXPLICIT])
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_after_ten_steps_weights_are_whole_and_moments_an_eighth(make, kind):
    mesh, alone = mesh_of(8, kind=kind), Net()
    net, opt, left = trained(make, mesh)
    step, expected = step_of(net, opt), step_of(alone, make(alone.train_vars()))
    batch = jax.device_put(data(), at(mesh, "data"))

    for _ in range(10):
        assert float(step(*batch)) == pytest.approx(float(expected(*data())), abs=2e-7)

    assert left == {}
    for path, v in net.vars().items():
        assert v.value.sharding.spec == P()
        np.testing.assert_allclose(v.value, alone.vars()[path].value, atol=2e-7)
    divided = [v for v in opt.vars().unique().values() if v.value.ndim == 2]
    assert divided
    assert all(largest_part(v) == v.value.nbytes // 8 for v in divided)


def test_buffers_of_weights_and_moments_are_reused():
    mesh = mesh_of(8)
    net, opt, _ = trained(MAKES["AdamW"], mesh)
    step, batch = step_of(net, opt), jax.device_put(data(), at(mesh, "data"))
    step(*batch)
    for v in (net.l1.W, opt.slots["l1.W"]["m"]):
        before = v.value.addressable_shards[0].data.unsafe_buffer_pointer()
        step(*batch)
        assert v.value.addressable_shards[0].data.unsafe_buffer_pointer() == before


def test_an_eager_update_keeps_the_places_too():
    net, opt, _ = trained(MAKES["AdamW"], mesh_of(8), offload="pinned_host")

    opt.update({path: v.value for path, v in net.train_vars().items()})

    moments = opt.slots["l1.W"]["m"].value
    assert moments.sharding.spec == P(None, "data")
    assert moments.sharding.memory_kind == "pinned_host"
    assert net.l1.W.value.sharding.spec == P()


@pytest.mark.parametrize("memory", ["pinned_host", "unpinned_host"])
@pytest.mark.parametrize("axis", ["data", None])
def test_offloaded_moments_stay_in_that_memory_with_equal_numbers(memory, axis):
    mesh, alone = mesh_of(8), Net()
    net, opt, _ = trained(MAKES["AdamW"], mesh, axis=axis, offload=memory)
    step = step_of(net, opt)
    expected = step_of(alone, MAKES["AdamW"](alone.train_vars()))
    batch = jax.device_put(data(), at(mesh, "data"))

    for _ in range(3):
        assert float(step(*batch)) == pytest.approx(float(expected(*data())), abs=2e-7)

    assert opt.slots["l1.W"]["m"].value.sharding.memory_kind == memory
    assert net.l1.W.value.sharding.memory_kind == at(mesh).memory_kind


def test_moments_are_divided_beside_what_divides_the_weights():
    mesh, net = mesh_of(4, 2), Net()
    bo.sharding.shard(net, mesh, {"*.W": P(None, "model")})
    opt = MAKES["AdamW"](net.train_vars())
    bo.sharding.zero(opt)
    step_of(net, opt)(*jax.device_put(data(), at(mesh, "data")))

    assert net.l1.W.value.sharding.spec == P(None, "model")
    assert opt.slots["l1.W"]["m"].value.sharding.spec == P("data", "model")


def test_what_cannot_be_is_named_and_nothing_moves():
    net = Net()
    opt = MAKES["AdamW"](net.train_vars())
    moments = opt.slots["l1.W"]["m"].value

    with pytest.raises(ShardingError, match="no mesh"):
        bo.sharding.zero(opt)
    with pytest.raises(ShardingError, match="no axis 'row'"):
        bo.sharding.zero(opt, mesh_of(8), "row")
    with pytest.raises(ShardingError, match="'disk' is no memory"):
        bo.sharding.zero(opt, mesh_of(8), offload="disk")

    assert opt.slots["l1.W"]["m"].value is moments
