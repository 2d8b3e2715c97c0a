# SPDX-License-Identifier: Apache-2.0
"""Jacobians, Hessians, vjp, jvp, vector_grad, remat: against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

A, B = jnp.array([1.0, 2.0]), jnp.array([[0.5, -1.0], [2.0, 0.0], [1.0, 1.0]])
X = jnp.array([0.3, -0.7])


def pure(p, x):
    return jnp.tanh(p["b"] @ (p["a"] * x)) * p["a"].sum()


@pytest.fixture
def model():
    """Return Variables a and b, a counter, and the function of x that uses them."""
    p = {"a": bo.TrainVar(A), "b": bo.TrainVar(B)}
    count = bo.Variable(jnp.array(0))

    def f(x):
        count.value += 1
        return pure({k: v.value for k, v in p.items()}, x)

    return p, count, f


def close(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(
        lambda o, e: np.testing.assert_allclose(o, e, rtol=2e-5, atol=1e-6),
        ours,
        expected,
    )


P = {"a": A, "b": B}


@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "jacobian"])
def test_jacobians_have_the_structure_of_grad_vars(model, name):
    p, count, f = model
    ours = getattr(bo, name)
    by_p, by_x = jax.jacrev(pure, argnums=(0, 1))(P, X)

    close(ours(f, p)(X), by_p)
    close(ours(f, p["a"])(X), by_p["a"])
    close(ours(f, [p["b"], p["a"]])(X), [by_p["b"], by_p["a"]])
    close(ours(f)(X), by_x)
    close(ours(f, argnums=(-1,))(X), (by_x,))
    close(ours(f, p, 0)(X), (by_p, by_x))
    close(ours(f, p, return_value=True)(X), (by_p, pure(P, X)))
    assert int(count) == 7


def test_a_jacobian_of_a_pytree_has_its_structure(model):
    p, _, f = model

    ours = bo.jacrev(lambda x: ({"y": f(x)}, x.sum()), p["a"], has_aux=True)(X)

    close(ours, ({"y": jax.jacrev(pure)(P, X)["a"]}, X.sum()))


@pytest.mark.more
def test_hessians_have_the_structure_twice(model):
    p, count, f = model
    expected = jax.hessian(lambda p: pure(p, X).sum())(P)
    by_x = jax.hessian(lambda x: pure(P, x).sum())(X)

    def scalar(x):
        return f(x).sum()

    close(bo.jit(bo.hessian(scalar, p))(X), expected)
    close(bo.hessian(scalar, p["a"])(X), expected["a"]["a"])
    close(bo.jit(bo.hessian(scalar))(X), by_x)
    both = bo.jit(bo.hessian(scalar, p["a"], 0, return_value=True))(X)
    close(both[0][0][0], expected["a"]["a"])
    close(both[0][1][1], by_x)
    close(both[1], pure(P, X).sum())
    assert int(count) == 4


@pytest.mark.more
def test_a_hessian_by_an_argument_of_any_structure_is_that_of_jax():
    def f(p):
        (a, b), c = p
        return (a**2 * b * c).sum()

    p = ([A, 2 * A], 3 * A)

    close(bo.hessian(f)(p), jax.hessian(f)(p))
    close(bo.hessian(lambda q: f((q, A)))(p[0]), jax.hessian(lambda q: f((q, A)))(p[0]))


def test_vector_grad_is_the_gradient_of_the_sum(model):
    p, _, f = model
    expected = jax.grad(lambda p: pure(p, X).sum())(P)

    close(bo.vector_grad(f, p, return_value=True)(X), (expected, pure(P, X)))


def test_vjp_is_jaxs(model):
    p, count, f = model
    y, pull_back = jax.vjp(pure, P, X)
    ct = jnp.arange(3.0)

    ours, ours_back = bo.vjp(f, X, grad_vars=p)
    _, back_x = bo.vjp(f, X)
    _, back_p, aux = bo.vjp(lambda: (f(X), 1.0), grad_vars=p, has_aux=True)

    close(ours, y)
    close(ours_back(ct), (pull_back(ct)[0], (pull_back(ct)[1],)))
    close(back_x(ct), (pull_back(ct)[1],))
    close(back_p(ct), pull_back(ct)[0])
    assert (aux, int(count)) == (1.0, 3)


def test_jvp_is_jaxs(model):
    p, _, f = model
    ones = jax.tree.map(jnp.ones_like, P)
    expected = jax.jvp(pure, (P, X), (ones, X))

    ours = bo.jvp(f, (X,), (X,), grad_vars=p, var_tangents=ones)

    close(ours, expected)
    close(bo.jvp(f, (X,), (X,)), jax.jvp(lambda x: pure(P, x), (X,), (X,)))


def test_remat_changes_nothing_but_what_is_stored(model):
    p, count, f = model
    expected = jax.grad(lambda p: pure(p, X).sum())(P)
    rematted = bo.remat(f, policy=jax.checkpoint_policies.nothing_saveable)

    close(bo.grad(lambda x: rematted(x).sum(), p)(X), expected)
    close(bo.jit(lambda: rematted(X))(), pure(P, X))
    assert int(count) == 2


def test_remat_recomputes():
    w = bo.TrainVar(jnp.ones(4))

    def residuals(f):
        jaxpr = bo.make_jaxpr(bo.grad(lambda: f().sum(), w))()
        return str(jaxpr).count("sin ")

    def plain():
        return jnp.cos(jnp.cos(w.value))

    assert residuals(bo.remat(plain)) == residuals(plain)
    assert str(bo.make_jaxpr(bo.grad(lambda: bo.remat(plain)().sum(), w))()).count(
        "cos "
    ) > str(bo.make_jaxpr(bo.grad(lambda: plain().sum(), w))()).count("cos ")


def test_remat_takes_static_arguments():
    f = bo.remat(lambda x, n: x * len(n), static_argnums=(1,))

    assert float(bo.grad(f)(2.0, "abc")) == 3.0


def test_eval_shape_changes_nothing(model):
    _, count, f = model

    shape = bo.eval_shape(f, jax.ShapeDtypeStruct((2,), jnp.float32))

    assert (shape.shape, int(count)) == ((3,), 0)


def test_make_jaxpr_shows_state_as_inputs_and_outputs(model):
    _, _, f = model

    jaxpr, shape = bo.make_jaxpr(f, return_shape=True)(X)

    assert [a.shape for a in jaxpr.in_avals] == [(), (2,), (3, 2), (2,)]
    assert [a.shape for a in jaxpr.out_avals] == [(), (3,)]
    assert shape.shape == (3,)
