# SPDX-License-Identifier: Apache-2.0
"""A net of two layers, and meshes of the 8 devices of the tests."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import brainopt as bo

KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


class Layer(bo.Node):
    def __init__(self, rows, columns, key):
        self.W = bo.TrainVar(
            jax.random.normal(key, (rows, columns)) / rows**0.5,
            axis_names=("embed", "mlp"),
        )
        self.b = bo.TrainVar(jnp.zeros(columns))

    def __call__(self, x):
        return x @ self.W.value + self.b.value[None]


class Net(bo.Node):
    """3,152 float32 weights, 12,608 bytes."""

    def __init__(self, seed=0):
        first, second = jax.random.split(jax.random.key(seed))
        self.l1 = Layer(32, 64, first)
        self.l2 = Layer(64, 16, second)

    def __call__(self, x):
        return self.l2(jnp.tanh(self.l1(x)))


def mesh_of(*shape, names=("data", "model"), kind="auto", devices=None):
    names = names[: len(shape)]
    return jax.make_mesh(
        shape, names, axis_types=(KINDS[kind],) * len(shape), devices=devices
    )


def at(mesh, *spec, **options):
    return NamedSharding(mesh, P(*spec), **options)


def data(rows=16):
    key = jax.random.key(7)
    return 0.3 * jax.random.normal(key, (rows, 32)), jnp.full((rows, 16), 0.1)


def step_of(net, opt):
    """A compiled training step; returns the loss."""

    @bo.jit
    def step(x, y):
        grads, loss = bo.grad(
            lambda: jnp.mean((net(x) - y) ** 2), net.train_vars(), return_value=True
        )()
        opt.update(grads)
        return loss

    return step


def largest_part(variable):
    """Return the bytes that one device holds of a value."""
    return max(part.data.nbytes for part in variable.value.addressable_shards)
