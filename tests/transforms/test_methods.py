# SPDX-License-Identifier: Apache-2.0
"""A transform that decorates a method closes over ``self``: its writes are kept."""

import copy
import functools
import gc
import inspect
import pickle
import weakref

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo

MESH = jax.sharding.Mesh(jax.devices()[:1], ("d",))
P = jax.sharding.PartitionSpec


RUNS: list[int] = []


def _run(self, x):
    RUNS.append(1)
    self.v.value = self.v + self.by * x.sum()
    return (self.w * x).sum()


# Positions are those in the class, where `self` is the first.
MADE = {
    "checkify": bo.checkify,
    "grad": functools.partial(bo.grad, argnums=1),
    "hessian": functools.partial(bo.hessian, argnums=1),
    "jacfwd": functools.partial(bo.jacfwd, argnums=1),
    "jacrev": functools.partial(bo.jacrev, argnums=1),
    "jit": bo.jit,
    "jit of grad": lambda f: bo.jit(bo.grad(f, argnums=1)),
    "jit of vmap": lambda f: bo.jit(bo.vmap(f, axis_size=2, in_axes=None)),
    "lift": bo.lift(jax.checkpoint),
    "make_jaxpr": bo.make_jaxpr,
    "partial": lambda f: bo.remat(functools.partial(_run)),
    "remat": bo.remat,
    "remat of vmap": lambda f: bo.remat(bo.vmap(f, in_axes=(None, None), axis_size=2)),
    "shard_map": functools.partial(
        bo.shard_map, mesh=MESH, in_specs=(P(), P()), out_specs=P()
    ),
    "value_and_grad": functools.partial(bo.value_and_grad, argnums=1),
    "vector_grad": functools.partial(bo.vector_grad, argnums=1),
    "vmap": functools.partial(bo.vmap, in_axes=(None, None), axis_size=2),
    "vmap by one axis": functools.partial(bo.vmap, in_axes=None, axis_size=2),
    "with_records": bo.with_records,
}


class Base(bo.Node):
    """What the methods read and write."""

    by = 2.0

    def __init__(self):
        self.v = bo.Variable(jnp.array(0.0))
        self.w = bo.TrainVar(jnp.array(5.0))


class Plain:
    """The same, and no Node."""

    by = 2.0
    __init__ = Base.__init__


# As the body of a class has them.
Net = type("Net", (Base,), {m: make(_run) for m, make in MADE.items()})
Other = type("Other", (Plain,), {m: make(_run) for m, make in MADE.items()})


class Child(Net):
    """Inherits the methods."""


def _as_attribute(name):
    net = Net()
    net.held = getattr(net, name)
    return net, net.held


def _of(net, name):
    return net, getattr(net, name)


HELD = {
    "attribute": _as_attribute,
    "copy": lambda name: _of(copy.deepcopy(_used(name)), name),
    "copied attribute": lambda name: _held(copy.deepcopy(_as_attribute(name)[0])),
    "method": lambda name: _of(Net(), name),
    "pickle": lambda name: _of(pickle.loads(pickle.dumps(_used(name))), name),
    "pickled attribute": lambda name: _held(
        pickle.loads(pickle.dumps(_as_attribute(name)[0]))
    ),
    "plain object": lambda name: _of(Other(), name),
    "subclass": lambda name: _of(Child(), name),
}


def _held(net):
    return net, net.held


def _used(name):
    net = Net()
    getattr(net, name)(jnp.array([1.0, 2.0]))
    net.v.value = jnp.array(0.0)
    return net


QUICK = ("jit", "grad", "remat of vmap", "vmap by one axis")
CASES = [(m, h) for m in MADE for h in HELD if h == "method" or m in QUICK]
X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize(("name", "hold"), CASES)
def test_what_a_method_writes_to_self_is_kept(name, hold):
    net, method = HELD[hold](name)
    step = bo.jit(lambda x: (method(x), None)[1])

    step(X), step(X), RUNS.clear()
    step(X)

    assert float(net.v) == (0.0 if name == "make_jaxpr" else 18.0)
    assert RUNS == []  # nothing is traced again


# Of w times the sum of x, which is 3, once or in two lanes; of d(w x)/dx = w, twice; or
# of both.
BY_W = dict.fromkeys(MADE, 3.0) | {"hessian": 0.0, "value_and_grad": 5.0}
BY_W |= dict.fromkeys(("jit of vmap", "remat of vmap", "vmap", "vmap by one axis"), 6.0)
BY_W |= dict.fromkeys(("grad", "jacfwd", "jacrev", "jit of grad", "vector_grad"), 2.0)
del BY_W["make_jaxpr"]


@pytest.mark.parametrize(("name", "hold"), [c for c in CASES if c[0] in BY_W])
def test_a_gradient_through_it_is_by_self(name, hold):
    net, method = HELD[hold](name)

    def loss():
        return sum(jnp.sum(y) for y in jax.tree.leaves(method(X)))

    assert float(bo.grad(loss, net.w, allow_unused=True)()) == BY_W[name]
    assert float(net.v) == 6.0


@pytest.mark.parametrize("name", MADE)
def test_two_instances_have_methods_of_their_own(name):
    one, two = Net(), Net()
    method = getattr(one, name)

    method(X), getattr(two, name)(2 * X)

    expected = (0.0, 0.0) if name == "make_jaxpr" else (6.0, 12.0)
    assert (float(one.v), float(two.v)) == expected
    assert method == getattr(one, name) != getattr(two, name)


@pytest.mark.parametrize("name", MADE)
def test_it_looks_as_a_method_of_python(name):
    net = Net()
    method = getattr(net, name)

    assert list(inspect.signature(method).parameters) == ["x"]
    assert method.__self__ is net and method.__func__ is getattr(Net, name)
    assert list(inspect.signature(getattr(Net, name)).parameters) == ["self", "x"]


@pytest.mark.parametrize("name", MADE)
def test_it_does_not_keep_its_instance(name):
    net = Net()
    getattr(net, name)(X)
    dead = weakref.ref(net)

    del net
    gc.collect()

    assert dead() is None


@pytest.mark.parametrize("argnums", [None, 0, (0, 1), -2])
def test_a_gradient_by_self_is_refused(argnums):
    method = type("Net", (Base,), {"f": bo.grad(_run, argnums=argnums)})().f

    with pytest.raises(TypeError, match="argnums=1"):
        method(X)


@pytest.mark.parametrize("axes", [(0,), (0, 0), (None,), (None, 0, 0)])
def test_axes_that_do_not_leave_out_self_are_refused(axes):
    net = type("Net", (Base,), {"f": bo.vmap(_run, in_axes=axes)})()

    with pytest.raises(ValueError, match=r"None for `self`|axes={self: axis}"):
        net.f(X)
    assert float(net.v) == 0.0


@pytest.mark.parametrize("axes", [0, (None, 0)])
def test_one_axis_is_that_of_the_other_arguments(axes):
    method = bo.vmap(lambda self, x: self.w * x, in_axes=axes)
    net = type("Net", (Base,), {"f": method})()

    assert net.f(X).tolist() == [5.0, 10.0]


def test_an_instance_without_a_hash_has_methods():
    kind = type("Net", (Plain,), {"f": bo.remat(_run), "__hash__": None})
    net = kind()

    net.f(X)

    assert float(net.v) == 6.0
