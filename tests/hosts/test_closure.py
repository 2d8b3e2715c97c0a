# SPDX-License-Identifier: Apache-2.0
"""``opt.step(closure)`` where the loss reads and writes states of brainstate."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts("brainstate")


def eagerly(step):
    return step


def in_their_jit(step):
    from brainstate.transform import jit

    return jit(step)


@pytest.mark.parametrize("wrap", [eagerly, bo.jit, in_their_jit])
def test_a_line_search_keeps_what_the_loss_writes_once(wrap):
    import brainstate

    w = brainstate.ParamState(jnp.array([3.0]))
    calls = brainstate.ShortTermState(jnp.zeros(()))

    def loss():
        calls.value += 1
        return ((w.value - 1) ** 2).sum()

    opt = bo.optim.LBFGS(train_vars={"w": w})
    step = wrap(lambda: opt.step(loss))
    assert float(step()) == 4.0

    np.testing.assert_allclose(w.value, [1.0], atol=1e-4)
    assert float(calls.value) == 1.0
