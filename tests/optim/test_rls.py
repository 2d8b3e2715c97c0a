# SPDX-License-Identifier: Apache-2.0
"""Recursive least squares: equal to NumPy in float64, in every way of running."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

N, OUT, STEPS = 12, 3, 40
RNG = np.random.default_rng(3)
X = RNG.normal(size=(STEPS, N)).astype(np.float32)
Y = (X @ RNG.normal(size=(N, OUT)) + 0.1 * RNG.normal(size=(STEPS, OUT))).astype("f4")
START = RNG.normal(size=(N, OUT)).astype(np.float32)


def reference(forgetting, alpha, steps=STEPS):
    """Table 9.1 of Haykin 2002, letter by letter in float64."""
    w, p = START.astype(np.float64), np.eye(N) / alpha
    for x, y in zip(X[:steps].astype(float), Y[:steps].astype(float), strict=True):
        k = p @ x / (forgetting + x @ p @ x)
        w = w + np.outer(k, y - x @ w)
        p = (p - np.outer(k, x @ p)) / forgetting
    return w, p


def make(forgetting=1.0, alpha=0.5):
    w = bo.TrainVar(START)
    opt = bo.optim.RLS(w, alpha=alpha, forgetting=forgetting)

    def learn(x, y):
        opt.update(x, x @ w.value - y)

    return w, opt, learn


def _eagerly(learn):
    for x, y in zip(X, Y, strict=True):
        learn(jnp.asarray(x), jnp.asarray(y))


def _in_a_loop(learn):
    bo.jit(lambda: bo.for_loop(learn, (jnp.asarray(X), jnp.asarray(Y))))()


WAYS = {
    "eager": _eagerly,
    "jit": lambda learn: _eagerly(bo.jit(learn)),
    "for_loop": _in_a_loop,
}


@pytest.mark.parametrize("forgetting", [1.0, 0.97])
@pytest.mark.parametrize("way", WAYS)
def test_it_equals_the_published_recursion(way, forgetting):
    w, opt, learn = make(forgetting)
    expected_w, expected_p = reference(forgetting, 0.5)

    WAYS[way](learn)

    np.testing.assert_allclose(w.value, expected_w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(opt.P.value, expected_p, rtol=1e-4, atol=1e-5)
    assert opt.step.value == STEPS


@pytest.mark.parametrize("way", WAYS)
def test_in_float64_it_equals_ridge_regression(way, x64):
    w = bo.TrainVar(jnp.asarray(START, jnp.float64))
    opt = bo.optim.RLS(w, alpha=0.25)
    x, y = X.astype(float), Y.astype(float)
    expected = START + np.linalg.solve(
        x.T @ x + 0.25 * np.eye(N), x.T @ (y - x @ START)
    )

    WAYS[way](lambda a, b: opt.update(a, a.astype(float) @ w.value - b))

    np.testing.assert_allclose(w.value, expected, rtol=1e-6)
    np.testing.assert_allclose(opt.P.value, reference(1.0, 0.25)[1], rtol=1e-6)


def test_readouts_of_the_same_inputs_share_p():
    net = bo.Node()
    net.a, net.b = bo.TrainVar(START), bo.TrainVar(START[:, 0])
    opt = bo.optim.RLS(net, alpha=0.5)

    for x, y in zip(map(jnp.asarray, X), map(jnp.asarray, Y), strict=True):
        errors = {"a": x @ net.a.value - y, "b": x @ net.b.value - y[0]}
        opt.update(x, errors)

    np.testing.assert_allclose(net.b.value, net.a.value[:, 0], rtol=1e-5)
    assert opt.P.shape == (N, N)


def test_the_forgetting_changes_without_compiling(counted):
    _, opt, learn = make()
    body = counted(learn)
    step = bo.jit(body)
    step(jnp.asarray(X[0]), jnp.asarray(Y[0]))
    traces = body.traces

    opt.forgetting = 0.5
    before = opt.P.value
    step(jnp.asarray(X[1]), jnp.asarray(Y[1]))

    k = before @ X[1]
    expected = (before - jnp.outer(k, k) / (0.5 + X[1] @ k)) / 0.5
    np.testing.assert_allclose(opt.P.value, expected, rtol=1e-5)
    assert body.traces == traces


def test_a_run_resumes_to_the_same_bits(tmp_path):
    _, opt, learn = make(0.99)
    learn(jnp.asarray(X[0]), jnp.asarray(Y[0]))
    bo.checkpoint.save(tmp_path / "rls.bo", {"opt": opt})

    _, other, _ = make(1.0, alpha=3.0)
    bo.checkpoint.restore(tmp_path / "rls.bo", {"opt": other})

    assert np.array_equal(other.P.value, opt.P.value)
    assert other.step.value == 1 and other.forgetting == opt.forgetting


@pytest.mark.parametrize(
    ("inputs", "errors", "said"),
    [
        (np.zeros((5, N)), np.zeros(OUT), "inputs of shape"),
        (np.zeros(N), np.zeros(OUT + 1), "errors of shape"),
        (np.zeros(N), {"other": np.zeros(OUT)}, "unexpected: other"),
    ],
)
def test_a_sample_that_does_not_fit_changes_nothing(inputs, errors, said):
    w, opt, _ = make()

    with pytest.raises(bo.errors.GradientError, match=said):
        opt.update(inputs, errors)

    assert np.array_equal(w.value, START) and opt.step.value == 0


@pytest.mark.parametrize("numbers", [{"alpha": 0.0}, {"forgetting": 1.5}])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(bo.errors.HyperparameterError, match="out of range"):
        bo.optim.RLS(bo.TrainVar(START), **numbers)


def test_weights_of_other_shapes_are_refused():
    net = bo.Node()
    net.a, net.b = bo.TrainVar(START), bo.TrainVar(np.zeros((2, 2), np.float32))

    with pytest.raises(bo.errors.VariableError, match="b: shape"):
        bo.optim.RLS(net)
