# SPDX-License-Identifier: Apache-2.0
"""A function that returns no loss is told so, and nothing has changed."""

import re

import jax.numpy as jnp
import pytest

import brainopt as bo

RETURNED = {
    "nothing": lambda v: None,
    "a str": lambda v: "loss",
    "a list": lambda v: [v.sum(), 1.0],
    "a tuple": lambda v: (v.sum(), 1.0),
    "a dict": lambda v: {"loss": v.sum()},
}
NO_GRADIENT = {
    "int": (lambda v: jnp.sum(v.value > 0), TypeError, r"real float"),
    "complex": (lambda v: v.sum() * 1j, TypeError, r"`\.real`"),
    "while_loop": (
        lambda v: bo.while_loop(lambda c: c * v[0], lambda c: c > 0.1, 1.0),
        ValueError,
        "bo.bounded_while_loop",
    ),
    "index": (
        lambda v: jnp.ones(3)[bo.Variable(jnp.array(1))] * v.sum(),
        IndexError,
        r"x\[i\.value\]",
    ),
}


@pytest.fixture
def weights():
    return bo.TrainVar(jnp.full(2, 0.5))


@pytest.mark.parametrize("outer", [lambda f: f, bo.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", RETURNED)
def test_a_loss_that_is_no_number_is_named(weights, kind, outer):
    def loss():
        weights.value = weights.value + 1
        return RETURNED[kind](weights)

    for gradient in (bo.grad(loss, weights), bo.value_and_grad(loss, weights)):
        with pytest.raises(TypeError, match=rf"returned {kind}(.|\n)*`return loss`"):
            outer(lambda gradient=gradient: gradient())()
    assert weights.value.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", ["nothing", "a str", "a list", "a dict"])
def test_a_closure_that_returns_no_loss_is_named(weights, kind):
    opt = bo.optim.SGD(0.1, weights)
    with pytest.raises(bo.errors.GradientError, match=f"returned {kind}, no loss"):
        opt.step(lambda: RETURNED[kind](weights))
    assert weights.value.tolist() == [0.5, 0.5] and int(opt.step) == 0


@pytest.mark.parametrize("kind", NO_GRADIENT)
def test_a_loss_without_gradient_says_the_mend(weights, kind):
    loss, error, says = NO_GRADIENT[kind]
    with pytest.raises(error) as caught:
        bo.grad(lambda: loss(weights), weights)()
    assert re.search(f"help: .*{says}", "\n".join(caught.value.__notes__))
