# SPDX-License-Identifier: Apache-2.0
"""What transforms return is copied with the Node that keeps it, bound to the copy."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import StateWarning

MESH = jax.sharding.Mesh(jax.devices()[:1], ("d",))
SPEC = jax.sharding.PartitionSpec()


class Counter(bo.Node):
    """Its function adds to ``v``; transformed, it is kept as ``step``."""

    def __init__(self, make, hold):
        self.v = bo.Variable(jnp.array(1.0))
        self.w = bo.TrainVar(jnp.array(2.0))
        self.by = 1.0
        self.step = make(hold(self), self)

    def _step(self, x):
        self.v.value = self.v + self.by * x
        return self.v * self.w

    @bo.jit
    def jitted(self, x):
        return self._step(x)

    def _read(self, x):
        return self.v * x

    read = bo.vmap(_read, in_axes=(None, 0))


@bo.jit
def doubled(x):
    """Return twice ``x``."""
    return 2.0 * x


# Each takes the function, and its Node for options that hold its Variables.
MADE = {
    "checkify": lambda f, _: bo.checkify(f),
    "for_loop": lambda f, _: functools.partial(bo.for_loop, f, length=1),
    "grad": lambda f, node: bo.grad(f, node),
    "grad by a collector": lambda f, node: bo.grad(f, node.train_vars()),
    "hessian": lambda f, node: bo.hessian(f, [node.w]),
    "jacfwd": lambda f, node: bo.jacfwd(f, {"w": node.w}),
    "jacrev": lambda f, node: bo.jacrev(f, node.w),
    "jit": lambda f, _: bo.jit(f),
    "jit of vmap": lambda f, _: bo.jit(bo.vmap(f, None, axis_size=1)),
    "jit with options": lambda f, _: bo.jit(f, donate=False, static_argnames="y"),
    "lift": lambda f, _: bo.lift(jax.checkpoint)(f),
    "make_jaxpr": lambda f, _: bo.make_jaxpr(f),
    "none": lambda f, _: f,
    "remat": lambda f, _: bo.remat(f),
    "shard_map": lambda f, _: bo.jit(
        bo.shard_map(f, mesh=MESH, in_specs=SPEC, out_specs=SPEC)
    ),
    "value_and_grad": lambda f, node: bo.value_and_grad(f, node),
    "vector_grad": lambda f, node: bo.vector_grad(f, node),
    "with_records": lambda f, _: bo.with_records(f),
    "vmap": lambda f, node: bo.vmap(f, None, axis_size=1, axes={node.v: None}),
}
HELD = {
    "method": lambda node: node._step,
    "partial": lambda node: functools.partial(node._step, x=1.0),
    "closure": lambda node: lambda x: node._step(x),
    "default": lambda node: lambda x, node=node: node._step(x),
    "inner function": lambda node: _nested(node),
    "jitted method": lambda node: node.jitted,
}
CLOSURES = ("closure", "default", "inner function")
PLAIN = MADE["none"], HELD["method"]
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda node: pickle.loads(pickle.dumps(node)),
    "cloudpickle": lambda node: _cloudpickled(node),
    "tree": lambda node: jax.tree.map(lambda x: x, node),
}


def _nested(node):
    def inner(x):
        return node._step(x)

    return lambda x: inner(x)


def _cloudpickled(node):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(node))


def _call(node, hold, name, by=1.0):
    node.by = by
    x = jnp.ones(1) if name == "for_loop" else jnp.array(1.0)
    return node.step() if hold == "partial" else node.step(x)


def _moved(node, hold, name):
    """Return by how much a call of ``step`` moves ``v``, after a change of ``by``."""
    before = float(node.v)
    _call(node, hold, name, 3.0)
    return float(node.v) - before


CASES = [(name, "method", way) for name in MADE for way in COPIES] + [
    (name, hold, way)
    for name in ("grad", "none", "vmap")
    for hold in HELD
    for way in COPIES
    if hold != "method" and (way != "pickle" or hold not in CLOSURES)
    # Python copies a plain closure by reference.
    if name != "none" or way == "tree" or hold not in CLOSURES
]
# JAX does not pickle a mesh.
CASES = [c for c in CASES if c[0] != "shard_map" or c[2] in ("deepcopy", "tree")]


@pytest.mark.parametrize(("name", "hold", "way"), CASES)
def test_the_copy_runs_on_itself(name, hold, way):
    node = Counter(MADE[name], HELD[hold])

    other = COPIES[way](node)

    moves = 0.0 if name == "make_jaxpr" else 3.0
    assert _moved(other, hold, name) == moves and float(node.v) == 1.0
    assert node.by == 1.0 and other is not node


@pytest.mark.parametrize("hold", HELD)
@pytest.mark.parametrize("name", MADE)
def test_two_nodes_that_keep_one_have_one_structure(name, hold):
    one, two = (Counter(MADE[name], HELD[hold]) for _ in range(2))

    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert jax.tree.map(jnp.add, one, two).v.value == 2.0


@pytest.mark.parametrize(
    "other",
    [
        lambda node: bo.vmap(node._step, in_axes=None),  # other options
        lambda node: bo.remat(node._step),  # another transform
        lambda node: bo.vmap(node._read),  # another method
        lambda node: bo.vmap(lambda x: node._step(x)),  # other code
        lambda _: bo.vmap(Counter(*PLAIN)._step),  # of a Node that is not in the tree
    ],
)
def test_functions_that_differ_make_structures_that_differ(other):
    one, two = Counter(*PLAIN), Counter(*PLAIN)
    one.step, two.step = bo.vmap(one._step), other(two)

    assert jax.tree.structure(one) != jax.tree.structure(two)


def test_a_copy_is_not_compiled_and_has_the_same_options():
    node = Counter(MADE["jit with options"], HELD["method"])
    node.step(1.0)

    other = copy.deepcopy(node)

    assert (node.step.compiles, other.step.compiles) == (1, 0)
    assert other.step.recipe.options == {"donate": False, "static_argnames": "y"}


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_decorated_function_or_method_is_found_by_its_name(way):
    node = Counter(*PLAIN)

    assert COPIES[way](doubled) is doubled and COPIES[way](Counter.read) is Counter.read
    other = COPIES[way](node.read)

    assert other.__self__ is not node and other.__func__ is Counter.read
    assert other(jnp.arange(2.0)).tolist() == [0.0, 1.0]


def test_a_function_that_holds_nothing_is_no_other_in_the_copy():
    node = Counter(lambda *_: bo.jit(lambda x: 2 * x), HELD["method"])

    assert copy.deepcopy(node).step is node.step


def test_a_closure_over_itself_is_copied():
    def make(_, node):
        def step(x):
            return node._step(x) if x > 0 else step(-x)

        return bo.remat(step, static_argnums=0)

    other = copy.deepcopy(Counter(make, HELD["method"]))

    assert float(other.step(-2.0)) == 6.0 and float(other.v) == 3.0


def test_a_copy_that_reaches_the_original_by_a_global_says_so():
    global named
    named = Counter(lambda *_: bo.vmap(lambda x: named._step(x)), HELD["method"])

    with pytest.warns(StateWarning, match="named"):
        copy.deepcopy(named)
