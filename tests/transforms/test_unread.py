# SPDX-License-Identifier: Apache-2.0
"""A Variable that the loss never reads: zeros, and one warning that names it."""

import warnings

import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.transforms.gradients import _differentiate


@pytest.fixture(autouse=True)
def nothing_told():
    """Forget which functions were told, which are the same in each test."""
    _differentiate._told.clear()


class Net(bo.Node):
    def __init__(self):
        self.used = bo.TrainVar(jnp.array(2.0))
        self.unused = bo.TrainVar(jnp.ones(2))


DERIVATIVES = {
    "grad": bo.grad,
    "value_and_grad": lambda *args, **kw: _second(bo.value_and_grad(*args, **kw)),
    "vector_grad": bo.vector_grad,
    "jacrev": bo.jacrev,
    "jacfwd": bo.jacfwd,
    "hessian": lambda *args, **kw: _row(bo.hessian(*args, **kw)),
    "vjp": lambda f, of, **kw: lambda: bo.vjp(f, grad_vars=of, **kw)[1](1.0),
}
WAYS = {
    "eager": lambda f: f,
    "jit": bo.jit,
    "for_loop": lambda f: lambda: last(bo.for_loop(f, length=2)),
    "vmap": lambda f: lambda: last(bo.vmap(lambda _: f())(jnp.arange(2))),
    "cond": lambda f: lambda: bo.cond(True, f, f),
    "remat": bo.remat,
}


def _second(f):
    return lambda: f()[1]


def _row(f):
    return lambda: f()["used"]


def last(tree):
    return {key: value[-1] for key, value in tree.items()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_what_is_not_read_has_zeros_and_one_warning(name, way):
    net = Net()

    def loss():
        return net.used**2

    run = WAYS[way](DERIVATIVES[name](loss, net))
    with pytest.warns(UserWarning, match=r"loss .* never read") as caught:
        grads = run()
    assert [str(w.message).splitlines()[1] for w in caught] == ["  unused"]
    assert float(grads["used"]) == (2.0 if name == "hessian" else 4.0)
    assert grads["unused"].tolist() == [0.0, 0.0]
    run()  # a second warning would be an error


@pytest.mark.parametrize("name", DERIVATIVES)
def test_an_option_allows_it(name):
    net = Net()
    DERIVATIVES[name](lambda: net.used**2, net, allow_unused=True)()


SOURCES = {
    "one": (lambda net: net.unused, "TrainVar 'Net.unused'"),
    "list": (
        lambda net: [net.used, net.unused],
        r"grad_vars\[1\]: TrainVar 'Net.unused'",
    ),
    "dict": (lambda net: {"a": net.used, "b": net.unused}, "b"),
    "nested": (lambda net: {"a": {"b": [net.unused]}}, r"a.b\[0\]"),
    "collector": (lambda net: net.train_vars(), "unused"),
    "Node": (lambda net: net, "unused"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_it_is_named_as_it_was_given(source):
    net = Net()
    of, name = SOURCES[source]
    with pytest.warns(UserWarning, match=rf"\n  {name}\n"):
        bo.grad(lambda: net.used**2, of(net))()


READS = {
    "for_loop": lambda v: bo.for_loop(lambda _: v * 1.0, jnp.ones(2)).sum(),
    "closed over in a loop": lambda v: bo.scan(lambda c, _: (c * v, None), 1.0,
                                               length=2)[0].sum(),
    "cond": lambda v: bo.cond(False, lambda: 0.0, lambda: v.value.sum()),
    "while_loop": lambda v: bo.bounded_while_loop(
        lambda x: x * v.value.sum(), lambda x: x < 9, 1.0, max_steps=3),
    "remat": lambda v: bo.remat(lambda: v.value.sum())(),
    "jit": lambda v: _jitted(v),
    "vmap": lambda v: bo.vmap(lambda x: x * v.value.sum())(jnp.ones(2)).sum(),
    "grad": lambda v: bo.grad(lambda x: x * v.value.sum())(1.0),
    "custom": lambda v: jnp.sum(v),
}  # fmt: skip


def _jitted(v):
    return bo.jit(lambda: v.value.sum())()


@pytest.mark.parametrize("way", ["eager", "jit"])
@pytest.mark.parametrize("name", READS)
def test_a_read_inside_another_transform_is_one(name, way):
    net = Net()
    gradient = WAYS[way](bo.grad(lambda: READS[name](net.used), net.used))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert float(gradient()) != 0.0


def test_a_gradient_by_an_argument_warns_of_nothing():
    assert float(bo.grad(lambda x: jnp.array(3.0))(1.0)) == 0.0
