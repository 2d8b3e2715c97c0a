# SPDX-License-Identifier: Apache-2.0
"""Complex variables go downhill with the gradients that JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import each

optim = bo.optim
START = np.array([[1 + 1j, 2 - 3j], [-1 + 2j, -0.5 - 1j]], np.complex64)
GOAL = 0.3 - 0.7j


def _loss(z):
    return (jnp.abs(z - GOAL) ** 2).sum() + 0.1 * (z.real * z.imag).sum()


# The minimum of (x - a)² + (y - b)² + xy/10 solves [2 1/10; 1/10 2] (x, y) = 2 (a, b).
MINIMUM = complex(*np.linalg.solve([[2, 0.1], [0.1, 2]], [2 * 0.3, 2 * -0.7]))
LR = {"Adadelta": 1.0, "LARS": 10.0, "Adagrad": 1.0, "SM3": 1.0}


def _by_grad(opt, z):
    opt.update(bo.grad(lambda: _loss(z.value), z)())


def _by_jax(opt, z):
    opt.update(jax.grad(_loss)(z.value))


def _by_closure(opt, z):
    opt.step(lambda: _loss(z.value))


@pytest.mark.parametrize("step", [_by_grad, _by_jax, _by_closure])
@pytest.mark.parametrize("cls", [optim.AdamW, optim.Adam, optim.SGD])
def test_every_road_leads_to_the_minimum(cls, step):
    z = bo.TrainVar(jnp.asarray(START))
    opt = cls(0.05, z, weight_decay=0.0)

    bo.jit(lambda: bo.for_loop(lambda _: step(opt, z), jnp.arange(500)))()

    np.testing.assert_allclose(z.value, np.full((2, 2), MINIMUM), atol=1e-4)


@each(few=True, but=(optim.LBFGS,))
def test_every_optimizer_goes_down_in_both_parts(member):
    z = bo.TrainVar(jnp.asarray(START))
    opt = member.make(z, **({} if "tx" in member.settings else _rate(member)))
    before = {k: v.dtype for k, v in opt.state_dict().items()}
    first = np.abs(START - MINIMUM)

    bo.jit(lambda: bo.for_loop(lambda _: _by_grad(opt, z), jnp.arange(100)))()

    gap = np.asarray(z.value) - MINIMUM
    assert (np.abs(gap.imag) < np.abs((START - MINIMUM).imag)).all()
    assert (np.abs(gap).sum() < 0.9 * first.sum()).all()
    assert z.value.dtype == jnp.complex64
    assert {k: v.dtype for k, v in opt.state_dict().items()} == before


def _rate(member):
    return {"lr": LR.get(member.cls.__name__, 0.02)}


@pytest.mark.long
def test_the_functional_core_takes_the_gradients_of_jax():
    params = {"z": jnp.asarray(START)}
    opt = optim.AdamW(0.05, weight_decay=0.0)
    state, apply = opt.init(params), jax.jit(opt.apply)

    for _ in range(300):
        grads = jax.grad(lambda p: _loss(p["z"]))(params)
        params, state = apply(params, state, grads)

    np.testing.assert_allclose(params["z"], np.full((2, 2), MINIMUM), atol=1e-3)


@pytest.mark.parametrize("through", ["transformation", "optimizer"])
def test_among_transformations_the_conjugate_counts_as_in_optax(through):
    g = jax.grad(_loss)(jnp.asarray(START))
    peer, z = optax.sgd(0.1), bo.TrainVar(jnp.asarray(START))
    updates, _ = peer.update(g.conj(), peer.init(z.value), z.value)
    expected = np.asarray(optax.apply_updates(z.value, updates))

    if through == "optimizer":
        optim.Optax(peer, z).update(g)
    else:
        tx = optim.SGD(0.1).as_optax()
        updates, _ = tx.update(g.conj(), tx.init(z.value), z.value)
        z.value = z.value + updates

    np.testing.assert_allclose(z.value, expected, rtol=1e-6)


def test_sam_looks_uphill_in_both_parts():
    z = bo.TrainVar(jnp.asarray([3 + 4j]))
    sam = optim.SAM(optim.SGD(0.1, z), rho=0.5)

    sam.step(lambda: (jnp.abs(z.value) ** 2).sum() / 2)

    worst = (3 + 4j) * 1.1
    np.testing.assert_allclose(z.value, [3 + 4j - 0.1 * worst], rtol=1e-6)


def test_maximize_climbs_in_both_parts():
    z = bo.TrainVar(jnp.asarray([1 + 1j]))
    opt = optim.SGD(0.1, z, maximize=True)

    opt.update(bo.grad(lambda: (jnp.abs(z.value) ** 2).sum(), z)())

    np.testing.assert_allclose(z.value, [1.2 + 1.2j], rtol=1e-6)


def test_rprop_sizes_the_steps_of_both_parts(x64):
    parts = {"re": bo.TrainVar([1.0]), "im": bo.TrainVar([-2.0])}
    z = bo.TrainVar(jnp.asarray([1 - 2j]))
    apart, whole = optim.Rprop(0.1, parts), optim.Rprop(0.1, z)

    for g in (1 + 1j, 2 - 1j, -1 - 1j, 1 + 3j):
        re, im = (jnp.full(1, x) for x in (g.real, g.imag))
        apart.update({"re": re, "im": im})
        whole.update(jnp.asarray([g]).conj())

    np.testing.assert_allclose(z.value.real, parts["re"].value, rtol=1e-12)
    np.testing.assert_allclose(z.value.imag, parts["im"].value, rtol=1e-12)
