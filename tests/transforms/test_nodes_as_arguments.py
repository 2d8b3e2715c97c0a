# SPDX-License-Identifier: Apache-2.0
"""A Node among the arguments is that Node; a loop that takes its values tells losses.

`test_methods` has the Node that a method is bound to.
"""

import gc
import warnings
import weakref

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import GradientError, StateWarning, VariableError

MESH = jax.sharding.Mesh(jax.devices()[:1], ("d",))
P = jax.sharding.PartitionSpec
X = jnp.array([1.0])


class Net(bo.Node):
    """One state and one weight."""

    def __init__(self, v=0.0):
        self.v = bo.Variable(jnp.array([v]))
        self.w = bo.TrainVar(jnp.array([2.0]))


def run(net, x):
    net.v.value = net.v + x
    return (net.w**2 * x).sum()


def by_name(net, x):
    return run(net=net, x=x)


def in_dict(both):
    return run(both["net"], both["x"])


# Each runs once: v is 1 afterwards.
KEPT = {
    "bounded_while_loop": lambda net: bo.bounded_while_loop(
        lambda i: run(net, X) * 0 + i + 1, lambda i: i < 1, 0.0, max_steps=3
    ),
    "checkify": lambda net: bo.checkify(run)(net, X),
    "cond": lambda net: bo.cond(True, run, lambda net, x: 0.0, (net, X)),
    "cond in a dict": lambda net: bo.cond(
        True, in_dict, lambda _: 0.0, {"net": net, "x": X}
    ),
    "grad": lambda net: bo.grad(run)(net, X),
    "grad by the other": lambda net: bo.grad(run, argnums=1)(net, X),
    "grad by both": lambda net: bo.grad(run, argnums=(0, 1))(net, X),
    "grad by grad_vars": lambda net: bo.grad(run, net.w)(net, X),
    "hessian": lambda net: bo.hessian(run, argnums=1)(net, X),
    "ifelse": lambda net: bo.ifelse([True], [run, lambda net, x: 0.0], (net, X)),
    "jacfwd": lambda net: bo.jacfwd(run)(net, X),
    "jacrev": lambda net: bo.jacrev(run)(net, X),
    "jit": lambda net: bo.jit(run)(net, X),
    "jvp": lambda net: bo.jvp(run, (net, X), (net, X)),
    "lift": lambda net: bo.lift(jax.checkpoint)(run)(net, X),
    "remat": lambda net: bo.remat(run)(net, X),
    "remat by name": lambda net: bo.remat(by_name)(net, x=X),
    "remat in a dict": lambda net: bo.remat(in_dict)({"net": net, "x": X}),
    "shard_map": lambda net: bo.shard_map(
        run, mesh=MESH, in_specs=(P(), P()), out_specs=P()
    )(net, X),
    "shard_map by its values": lambda net: bo.shard_map(
        lambda net, x: jax.lax.psum(run(net, x), "d"),
        mesh=MESH,
        in_specs=(P("d"), P("d")),
        out_specs=P(),
    )(net, X),
    "switch": lambda net: bo.switch(0, [run, run], (net, X)),
    "value_and_grad": lambda net: bo.value_and_grad(run)(net, X),
    "vector_grad": lambda net: bo.vector_grad(run)(net, X),
    "vjp": lambda net: bo.vjp(run, net, X),
    "vmap": lambda net: bo.vmap(run, in_axes=None, axis_size=2)(net, X),
    "vmap by its values": lambda net: bo.vmap(run)(net, X),
    "vmap by name": lambda net: bo.vmap(lambda x, net: run(net, x))(X, net=net),
    "with_records": lambda net: bo.with_records(run)(net, X),
}
AROUND = {
    "eager": lambda call: call,
    "jit": bo.jit,
    "grad": lambda call: bo.grad(lambda net: (call(net), net.w.value.sum())[1]),
    "for_loop": lambda call: (
        lambda net: bo.for_loop(lambda _: (call(net), None)[1], jnp.arange(1))
    ),
}


QUICK = ("cond", "grad", "remat", "vmap by its values")
CASES = [(n, a) for n in KEPT for a in AROUND if a == "jit" or n in QUICK]


@pytest.mark.parametrize(("name", "around"), CASES)
def test_what_is_written_to_it_is_kept(name, around):
    net = Net()
    call = AROUND[around](lambda net: (KEPT[name](net), None)[1])

    for count in (1, 2):
        call(net)
        assert net.v.value.tolist() == [float(count)]


@pytest.mark.parametrize("name", ["eval_shape", "make_jaxpr"])
def test_what_computes_nothing_writes_nothing(name):
    net = Net()

    bo.eval_shape(run, net, X) if name == "eval_shape" else bo.make_jaxpr(run)(net, X)

    assert net.v.value.tolist() == [0.0]


# d(w**2 x)/dw = 2 w x, and w = 2.
GRADIENTS = {
    "grad": lambda net: bo.grad(run)(net, X),
    "grad by both": lambda net: bo.grad(run, argnums=(0, 1))(net, X)[0],
    "jacfwd": lambda net: bo.jacfwd(run)(net, X),
    "jacrev": lambda net: bo.jacrev(run)(net, X),
    "value_and_grad": lambda net: bo.value_and_grad(run)(net, X)[1],
    "vector_grad": lambda net: bo.vector_grad(run)(net, X),
    "vjp": lambda net: bo.vjp(run, net, X)[1](1.0)[0],
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_its_gradient_is_a_node(name):
    net = Net()

    gradient = GRADIENTS[name](net)

    assert isinstance(gradient, Net) and gradient is not net
    assert gradient.w.value.tolist() == [4.0] and gradient.v.value.tolist() == [0.0]
    assert net.w.value.tolist() == [2.0]


@pytest.mark.more
def test_a_gradient_goes_through_it():
    net = Net()
    for name in ("remat", "cond", "vmap", "checkify", "shard_map"):
        loss = lambda: sum(map(jnp.sum, jax.tree.leaves(KEPT[name](net))))  # noqa: B023, E731
        assert bo.grad(loss, net.w)().tolist() == [8.0 if name == "vmap" else 4.0], name


def test_a_variable_in_two_places_is_refused():
    net = Net()

    with pytest.raises(GradientError, match=r"Net\.w"):
        bo.grad(run, net, argnums=0)(net, X)
    with pytest.raises(GradientError, match=r"Net\.w"):
        bo.grad(lambda a, b: run(a, X), argnums=(0, 1))(net, net)


def test_lanes_of_one_node_write_no_different_values():
    net = Net()

    with pytest.raises(VariableError, match=r"Net\.v"):
        bo.vmap(run, in_axes=(None, 0))(net, jnp.ones((2, 1)))
    assert net.v.value.tolist() == [0.0]


def test_lanes_have_slices_of_a_node_with_an_axis():
    lines = bo.vmap(lambda _: Net())(jnp.arange(3))

    out = bo.vmap(lambda net, x: run(net, x))(lines, jnp.ones((3, 1)))

    assert out.tolist() == [4.0] * 3
    assert lines.v.value.tolist() == [[1.0]] * 3


def _carry(net, x):
    return (run(net, x), net)[1], x


def _carry_by_cond(net, x):
    both = lambda n: (run(n, x), n)[1]  # noqa: E731
    return bo.cond(x[0] > 0, both, lambda n: n, net), x


CARRIED = {
    "scan": lambda net: bo.scan(_carry, net, X[None])[0],
    "scan by cond": lambda net: bo.scan(_carry_by_cond, net, X[None])[0],
    "while_loop": lambda net: bo.while_loop(
        lambda net, i: (_carry(net, X)[0], i + 1), lambda net, i: i < 1, (net, 0)
    )[0],
    "bounded_while_loop": lambda net: bo.bounded_while_loop(
        lambda net, i: (_carry(net, X)[0], i + 1),
        lambda net, i: i < 1,
        (net, 0),
        max_steps=3,
    )[0],
    "for_loop": lambda net: jax.tree.map(
        lambda v: v[0], bo.for_loop(lambda n, x: _carry(n, x)[0], (_stacked(net), X))
    ),
}


def _stacked(net):
    return jax.tree.map(lambda v: v[None], net)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", CARRIED)
def test_a_carried_node_is_a_new_one(name, compiled):
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = (bo.jit if compiled else lambda f: f)(CARRIED[name])(net)

    assert after.v.value.tolist() == [1.0] and net.v.value.tolist() == [0.0]


def _forgetful():
    def body(net, x):
        return run(net, x)

    return body


def _replacing():
    other = Net()

    def body(net, x):
        run(net, x)
        return other, x

    return body


@pytest.mark.parametrize(
    "loop",
    [
        lambda net: bo.for_loop(_forgetful(), (_stacked(net), X)),
        lambda net: bo.scan(_replacing(), net, X[None]),
    ],
)
def test_a_loss_is_told(loop):
    with pytest.warns(StateWarning, match=r"(?s)Net\.v.*close over"):
        loop(Net())


def test_a_branch_does_not_keep_it():
    net = Net()
    branch = lambda net, x: run(net, x)  # noqa: E731
    bo.cond(True, branch, branch, (net, X))
    dead = weakref.ref(net)

    del net
    gc.collect()

    assert dead() is None


def test_a_branch_compiles_once_for_each_node():
    branch = lambda net, x: run(net, x)  # noqa: E731
    nets = Net(), Net(5.0)
    runs = [bo.cond(True, branch, branch, (net, X)) for net in nets * 2]

    with bo.assert_compiles_at_most(0):
        bo.cond(True, branch, branch, (nets[0], X))
    assert [net.v.value.item() for net in nets] == [3.0, 7.0] and len(runs) == 4
