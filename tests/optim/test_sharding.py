# SPDX-License-Identifier: Apache-2.0
"""Sharded variables: their slots are divided as they are, the settings stay whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

SPEC = jax.sharding.PartitionSpec


def _sharding(*spec):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.sharding.NamedSharding(mesh, SPEC(*spec))


@pytest.mark.more
@pytest.mark.parametrize("spec", [("x",), ()])
def test_an_optimizer_of_divided_variables_trains_as_of_whole_ones(spec):
    def build(place):
        make = [("a", jnp.ones(3)), ("b", jnp.arange(4.0)), ("w", jnp.ones((2, 4)))]
        net = {name: bo.TrainVar(value) for name, value in make}
        if place is not None:
            net["b"].value = jax.device_put(net["b"].value, place)
        return bo.optim.AdamW(0.1, net), net

    (opt, net), (plain, expected) = build(_sharding(*spec)), build(None)
    for _ in range(3):
        for one, held in ((opt, net), (plain, expected)):
            one.update({path: v.value + 1.0 for path, v in held.items()})

    for path, variable in expected.items():
        np.testing.assert_allclose(net[path].value, variable.value, rtol=1e-6)
    assert net["b"].sharding.spec == opt.slots["b"]["m"].sharding.spec == SPEC(*spec)


def test_an_optimizer_moves_onto_a_sharding_that_divides_what_it_trains():
    net = {"b": bo.TrainVar(jnp.ones(4)), "w": bo.TrainVar(jnp.ones((2, 4)))}
    opt = bo.optim.AdamW(0.1, net)

    opt.to(_sharding("x"))

    slots = [slot for held in opt.slots.values() for slot in held.values()]
    assert all(v.sharding.spec == SPEC("x") for v in (*net.values(), *slots))
    assert opt.groups[0].numbers.sharding.is_fully_replicated
