# SPDX-License-Identifier: Apache-2.0
"""What devices send each other in one training step, counted in the compiled program.

Counts and bytes were measured once for this net by reading the programs of XLA:CPU,
which makes no reduce-scatter: it all-reduces and slices.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from tests.sharding.nets import Net, at, data, mesh_of, step_of

_BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "bf16": 2}
_LINE = re.compile(
    r"= (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all)\("
)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


def collectives(lowered):
    """Return count and bytes of the results of each kind."""
    found = {}
    for shapes, kind in _LINE.findall(lowered.compile().as_text()):
        # One line may combine several arrays: each counts its bytes.
        nbytes = sum(
            _BYTES[dtype] * int(np.prod([int(n) for n in dims.split(",") if n]))
            for dtype, dims in _SHAPE.findall(shapes)
        )
        count, total = found.get(kind, (0, 0))
        found[kind] = count + 1, total + nbytes
    return found


GRADIENTS_AND_LOSS = 12_608 + 4
WAYS = {
    "DP": ((8,), {}, {}, {"all-reduce": (1, GRADIENTS_AND_LOSS)}),
    "ZeRO-1": (
        (8,),
        {},
        {"zero": "data"},
        {"all-reduce": (1, GRADIENTS_AND_LOSS), "all-gather": (4, 12_608)},
    ),
    "FSDP": (
        (8,),
        {"fsdp": "data", "min_size": 0},
        {},
        None,
    ),
}


@pytest.mark.more
@pytest.mark.parametrize(
    ("shape", "rules", "options", "expected"), WAYS.values(), ids=WAYS
)
def test_a_step_sends_no_more_than_it_must(shape, rules, options, expected):
    net, mesh = Net(), mesh_of(*shape)
    bo.sharding.shard(net, mesh, **rules)
    opt = bo.optim.AdamW(1e-2, net.train_vars(), **options)
    batch = jax.device_put(data(), at(mesh, "data"))

    found = collectives(step_of(net, opt).lower(*batch))

    if expected is None:  # XLA may divide the computation instead of gathering weights
        assert found.keys() == {"all-reduce", "all-gather"}
        assert sum(nbytes for _, nbytes in found.values()) <= 2 * GRADIENTS_AND_LOSS
    else:
        assert found == expected


def test_an_ensemble_sends_nothing():
    mesh = mesh_of(8)
    keys = jax.device_put(jax.random.split(jax.random.key(0), 8), at(mesh, "data"))
    nets = bo.vmap(Member)(keys)
    opt = bo.optim.SGD(1e-2, nets.train_vars())
    x, y = data()

    @bo.jit
    def step():
        def loss():
            return bo.vmap(lambda: jnp.mean((nets(x) - y) ** 2), axes={nets: 0})().sum()

        opt.update(bo.grad(loss, nets.train_vars())())

    assert nets.W.value.sharding.is_equivalent_to(at(mesh, "data"), 3)
    assert nets.zeros.value.sharding.is_equivalent_to(at(mesh, "data"), 2)
    assert collectives(step.lower()) == {}


class Member(bo.Node):
    """A layer whose bias does not depend on the key."""

    def __init__(self, key):
        self.W = bo.TrainVar(jax.random.normal(key, (32, 16)))
        self.zeros = bo.TrainVar(jnp.zeros(16))

    def __call__(self, x):
        return x @ self.W.value + self.zeros.value[None]


def test_a_batch_of_one_place_is_divided_by_its_rule():
    rows = bo.sharding.batch(mesh_of(8), "data", np.ones((16, 2), "f4"))

    assert rows.sharding.spec == P("data")
