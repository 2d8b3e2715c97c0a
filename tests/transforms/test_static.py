# SPDX-License-Identifier: Apache-2.0
"""Arguments of compiled functions: static, Nodes by identity, Variables by value."""

import jax.numpy as jnp
import pytest

import brainopt as bo


class Counter(bo.Node):
    def __init__(self, start=0.0):
        self.n = bo.Variable(jnp.array(start))


@pytest.mark.parametrize("where", [dict(static_argnums=1), dict(static_argnums=-1)])
def test_static_arguments_are_compiled_in(where, counted):
    v = bo.Variable(jnp.array(0.0))

    @counted
    def step(x, mode):
        v.value += x if mode == "add" else -x

    jitted = bo.jit(step, **where)
    jitted(2.0, "add")
    jitted(2.0, "add")
    jitted(1.0, "subtract")

    assert float(v) == 3.0
    assert step.traces == 4


def test_static_names_work_by_position_and_by_name():
    @bo.jit(static_argnames="n")
    def repeat(x, n):
        assert isinstance(n, int)
        return jnp.tile(x, n)

    assert repeat(jnp.ones(2), 3).shape == (6,)
    assert repeat(jnp.ones(2), n=2).shape == (4,)


def test_equal_keys_of_other_types_are_other_programs():
    kind = bo.jit(lambda x: jnp.array(isinstance(x, bool)), static_argnums=0)

    assert [bool(kind(x)) for x in (1, True, 1)] == [False, True, False]


def test_an_unhashable_static_argument_says_so():
    with pytest.raises(TypeError, match="list, which cannot be hashed"):
        bo.jit(lambda x: x, static_argnums=0)([1])


def test_keyword_arguments_are_traced():
    v = bo.Variable(jnp.array(1.0))

    @bo.jit
    def step(x, *, scale):
        v.value = x * scale

    step(2.0, scale=3.0)
    step(x=2.0, scale=4.0)

    assert float(v) == 8.0


def test_nodes_as_arguments_are_taken_by_identity():
    one, two = Counter(), Counter(5.0)

    @bo.jit
    def bump(node, by):
        node.n.value += by

    bump(one, 1.0)
    bump(two, 1.0)
    bump(two, by=1.0)

    assert (float(one.n), float(two.n)) == (1.0, 7.0)


def test_nodes_inside_lists_and_dicts_are_taken_by_identity_too():
    one, two = Counter(), Counter()

    @bo.jit
    def bump(nodes, x):
        for node in nodes["all"]:
            node.n.value += x["by"]

    for _ in range(2):
        bump({"all": [one, two]}, {"by": jnp.array(2.0)})
    bump({"all": [two]}, {"by": jnp.array(2.0)})

    assert (float(one.n), float(two.n)) == (4.0, 6.0)


def test_variables_as_arguments_are_taken_by_value():
    v = bo.Variable([1.0, 2.0])
    view = bo.VariableView(v, slice(0, 1))

    total = bo.jit(lambda x, y, z: x.sum() + y[0].sum() + z.sum())

    assert float(total(v, [v], view)) == 7.0
