# SPDX-License-Identifier: Apache-2.0
"""A while loop that reverse mode can differentiate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

WAYS = {"eager": lambda f: f, "jit": bo.jit, "nested": lambda f: bo.jit(bo.jit(f))}


def root(a, max_steps=20, **options):
    """Newton's square root, counting its iterations in a Variable."""
    count = bo.Variable(jnp.array(0))

    def body(x, error):
        count.value += 1
        new = (x + a / x) / 2
        return new, jnp.abs(new - x)

    return bo.bounded_while_loop(
        body,
        lambda x, error: error > 1e-4,
        (a, jnp.inf),
        max_steps=max_steps,
        **options,
    )[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 4}])
def test_its_value_and_gradient_are_those_of_the_root(way, options):
    def f(a):
        return root(a, **options)

    for a in (0.5, 2.0, 9.0):
        value = WAYS[way](f)(a)
        slope = WAYS[way](bo.grad(f, argnums=0))(a)
        np.testing.assert_allclose(value, np.sqrt(a), rtol=1e-6)
        np.testing.assert_allclose(slope, 0.5 / np.sqrt(a), rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_where_while_loop_stops(way):
    results = []
    for loop in (
        bo.while_loop,
        lambda *args: bo.bounded_while_loop(*args, max_steps=9),
    ):
        count = bo.Variable(jnp.array(0))

        def body(x, count=count):
            count.value += 1
            return 2 * x

        out = WAYS[way](lambda loop=loop, body=body: loop(body, lambda x: x < 100, 1.0))
        results.append((float(out()), int(count)))
    assert results == [(128.0, 7)] * 2


def test_it_ends_at_max_steps():
    assert (
        float(bo.bounded_while_loop(lambda x: x + 1, lambda x: True, 0.0, max_steps=5))
        == 5
    )


def test_lanes_of_a_vmap_stop_by_themselves():
    found = bo.vmap(lambda a: root(a))(jnp.array([0.5, 2.0, 9.0]))
    np.testing.assert_allclose(found, np.sqrt([0.5, 2, 9]), rtol=1e-6)


@pytest.mark.parametrize("max_steps", [0, -1, 2.0, True, None])
def test_max_steps_is_a_positive_integer(max_steps):
    with pytest.raises(ValueError, match="max_steps is a positive integer"):
        root(2.0, max_steps)


def test_a_body_that_changes_shapes_is_refused():
    with pytest.raises(TypeError, match="changes its operands"):
        bo.bounded_while_loop(
            lambda x: jnp.stack([x, x]), lambda x: True, jnp.zeros(()), max_steps=3
        )


def test_a_condition_that_writes_is_refused():
    v = bo.Variable(jnp.zeros(()))

    def condition(x):
        v.value += 1
        return True

    with pytest.raises(bo.errors.TraceContextError, match="writes Variables"):
        bo.bounded_while_loop(lambda x: x, condition, 0.0, max_steps=3)


def test_python_runs_it_under_disable_jit():
    with jax.disable_jit():
        np.testing.assert_allclose(root(2.0), np.sqrt(2), rtol=1e-6)
