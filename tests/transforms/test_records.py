# SPDX-License-Identifier: Apache-2.0
"""Recorded values come out of every transform, with an axis for each loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

XS = np.array([1.0, -2.0, 0.5], np.float32)
W = np.array([1.0, 3.0], np.float32)


def trace(xs):
    """The membrane v = v / 2 + w x, by NumPy."""
    v, rows = np.zeros(2, np.float32), []
    for x in xs:
        v = v / 2 + W * x
        rows.append(v)
    return np.stack(rows)


class Membrane(bo.Node):
    def __init__(self):
        self.w = bo.TrainVar(W)
        self.v = bo.Variable(jnp.zeros(2))

    def step(self, x):
        self.v.value = self.v / 2 + self.w * x
        bo.record(v=self.v)
        return self.v.value.sum()

    def run(self, xs):
        return bo.for_loop(self.step, xs).sum()

    def chosen(self, x):
        return bo.cond(x > 0, self.step, lambda x: self.step(x) + 0, x)


def scanned(net, **options):
    return lambda xs: bo.scan(lambda c, x: (c, net.step(x)), 0.0, xs, **options)[1]


def twice(net, xs):
    xs = jnp.concatenate([xs, xs]).reshape(2, -1)
    return bo.for_loop(net.run, xs)


ONCE = trace(XS)
TWICE = trace([*XS, *XS]).reshape(2, 3, 2)
WAYS = {
    "for_loop": (lambda n: n.run, ONCE),
    "scan": (lambda n: scanned(n), ONCE),
    "scan reverse": (lambda n: scanned(n, reverse=True), trace(XS[::-1])[::-1]),
    "scan remat": (lambda n: scanned(n, remat=True), ONCE),
    "scan in rounds": (lambda n: scanned(n, checkpoint_every=2), ONCE),
    "loop in a loop": (lambda n: lambda xs: twice(n, xs), TWICE),
    "cond": (lambda n: lambda xs: bo.for_loop(n.chosen, xs), ONCE),
    "remat": (lambda n: bo.remat(n.run), ONCE),
    "checkify": (lambda n: bo.checkify(n.run), ONCE),
    "jit": (lambda n: bo.jit(n.run), ONCE),
    "grad": (lambda n: bo.grad(n.run, n.train_vars()), ONCE),
    "grad and aux": (
        lambda n: bo.grad(lambda x: (n.run(x), x), n.train_vars(), has_aux=True),
        ONCE,
    ),
    "jacfwd": (lambda n: bo.jacfwd(n.run, n.train_vars()), ONCE),
    "hessian": (lambda n: bo.hessian(n.run, n.train_vars()), ONCE),
    "vjp": (lambda n: lambda xs: bo.vjp(n.run, xs)[0], ONCE),
    "vmap": (
        lambda n: lambda xs: bo.vmap(n.run, discard=True)(jnp.stack([xs, 2 * xs])),
        np.stack([ONCE, trace(2 * XS)]),
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_is_recorded_comes_out_with_its_axes(name):
    way, expected = WAYS[name]
    net = Membrane()

    @bo.jit
    def step(xs):
        net.v.value = jnp.zeros(2)
        return bo.with_records(way(net))(xs)

    for _ in ("discovered", "compiled"):
        _, records = step(XS)
        np.testing.assert_allclose(records["v"], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["for_loop", "grad", "jit", "cond"])
@pytest.mark.parametrize("compiles", [True, False])
def test_it_comes_out_of_eager_code_too(name, compiles):
    way, expected = WAYS[name]
    net = Membrane()

    with jax.disable_jit(not compiles):
        _, records = bo.with_records(way(net))(XS)

    np.testing.assert_allclose(records["v"], expected, rtol=1e-6)
    np.testing.assert_allclose(net.v.value, expected[-1], rtol=1e-6)


def test_code_with_records_and_code_without_are_kept_apart():
    net = Membrane()
    step = bo.jit(net.run)

    for call in (step, bo.with_records(step)) * 2:
        call(XS)

    assert step.compiles == 2
    assert net.v.value.tolist() == pytest.approx(trace(np.tile(XS, 4))[-1])


def test_gradients_pass_through_what_is_recorded():
    net = Membrane()

    def loss(xs):
        return (bo.with_records(net.run)(xs)[1]["v"] ** 2).sum()

    by_xs = bo.grad(loss, argnums=0)(XS)

    weights = [[0.5 ** (t - s) if s <= t else 0.0 for s in range(3)] for t in range(3)]
    expected = 2 * (np.array(weights).T @ trace(XS)) @ W
    np.testing.assert_allclose(by_xs, expected, rtol=1e-5)


def test_the_nearest_with_records_has_the_values():
    net = Membrane()

    def outer(xs):
        bo.record(first=xs[0])
        return bo.with_records(net.run)(xs)

    (_, inner), records = bo.with_records(outer)(XS)

    assert records == {"first": 1.0}
    assert list(inner) == ["v"]


REFUSED = {
    "in one branch": (
        lambda n: bo.cond(True, n.step, lambda x: x, 1.0),
        bo.errors.TraceContextError,
        "branch 1: nothing",
    ),
    "while_loop": (
        lambda n: bo.while_loop(n.step, lambda x: x < 9, 1.0),
        bo.errors.TraceContextError,
        "while_loop cannot record these values:\n  v\nhelp: ",
    ),
    "bounded_while_loop": (
        lambda n: bo.bounded_while_loop(n.step, lambda x: x < 9, 1.0, max_steps=3),
        bo.errors.TraceContextError,
        "bounded_while_loop cannot",
    ),
    "jax.lax loop": (
        lambda n: jax.lax.map(lambda x: bo.record(v=x), jnp.ones(2)),
        bo.errors.TraceContextError,
        "`bo.for_loop`",
    ),
    "twice": (
        lambda n: (n.step(1.0), n.step(2.0)),
        ValueError,
        "recorded twice in one run:\n  v\nhelp: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_said(name):
    act, kind, text = REFUSED[name]
    net = Membrane()

    with pytest.raises(kind) as caught:
        bo.with_records(act)(net)

    assert text in str(caught.value)
    assert net.v.value.tolist() == [0.0, 0.0]


def test_without_with_records_nothing_is_kept_or_refused():
    net = Membrane()

    net.step(1.0)
    net.step(2.0)
    bo.cond(True, net.step, lambda x: x, 1.0)

    np.testing.assert_allclose(net.v.value, trace([1.0, 2.0, 1.0])[-1])
