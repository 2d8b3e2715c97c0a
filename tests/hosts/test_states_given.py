# SPDX-License-Identifier: Apache-2.0
"""States and models of brainpy and brainstate at the border of our transforms."""

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import HostError

pytestmark = pytest.mark.hosts("brainpy")


def of_brainpy(value):
    import brainpy.math as bm

    return bm.Variable(jnp.asarray(value))


def of_brainstate(value):
    import brainstate

    return brainstate.ShortTermState(jnp.asarray(value))


STATES = pytest.mark.parametrize("make", [of_brainpy, of_brainstate])
YES = jnp.array(True)
TAKES = {
    "jit": lambda x: bo.jit(lambda a: a * 2)(x),
    "jit, in a dict": lambda x: bo.jit(lambda d: d["a"] * 2)({"a": x}),
    "for_loop": lambda x: bo.for_loop(lambda a: a * 2, x),
    "scan": lambda x: bo.scan(lambda c, a: (c + a, c), x, jnp.ones(1))[0] * 2 - 2,
    "cond": lambda x: bo.cond(YES, lambda a: a * 2, lambda a: a, x),
    "ifelse": lambda x: bo.ifelse([YES], [lambda a: a * 2, lambda a: a], x),
    "while_loop": lambda x: bo.while_loop(lambda a: a * 2, lambda a: a[0] < 2, x),
    "vmap": lambda x: bo.vmap(lambda a: a * 2)(x),
    "grad": lambda x: bo.grad(lambda a: (a**2).sum())(x),
}
GIVES = {
    "jit": lambda x: bo.jit(lambda: x)(),
    "for_loop": lambda x: bo.for_loop(lambda i: x, jnp.zeros(1))[0],
    "cond": lambda x: bo.cond(YES, lambda: x, lambda: x),
    "vmap": lambda x: bo.vmap(lambda i: x)(jnp.zeros(1))[0],
}


@STATES
@pytest.mark.parametrize("use", TAKES.values(), ids=TAKES)
def test_a_state_as_an_operand_is_its_value(make, use):
    out = use(make([1.0, 3.0])) if use is not TAKES["while_loop"] else use(make([1.0]))
    assert isinstance(out, jax.Array)
    assert out.tolist() in ([2.0, 6.0], [2.0])


@STATES
@pytest.mark.parametrize("use", GIVES.values(), ids=GIVES)
def test_a_state_that_is_returned_is_its_value(make, use):
    out = use(make([1.0, 3.0]))
    assert isinstance(out, jax.Array)
    assert out.tolist() == [1.0, 3.0]


@STATES
def test_a_flag_in_a_state_ends_a_loop(make):
    going, count = make(True), make(0)

    def body():
        count.value = count.value + 1
        going.value = count.value < 4

    bo.while_loop(body, lambda: going)
    assert int(count.value) == 4


def test_a_model_as_an_argument_of_jit_is_refused_with_the_mend():
    import brainpy as bp
    import brainpy.math as bm

    net, x = bp.dnn.Dense(3, 1, mode=bm.training_mode), jnp.ones((2, 3))

    def total(net, x):
        return net(x).sum()

    for given in net, [net], {"net": net}:
        with pytest.raises(HostError, match=r"Dense[\s\S]*close over it"):
            bo.jit(total)(given, x)

    fixed = bo.jit(total, static_argnums=0)
    fixed(net, x)
    net.W.value, net.b.value = jnp.ones((3, 1)), jnp.zeros(1)
    assert float(fixed(net, x)) == 6.0


def test_an_optimizer_in_a_module_of_brainstate_is_told_to_stay_beside_it():
    import brainstate

    module = brainstate.nn.Module()
    module.net = brainstate.nn.Linear(3, 1)
    module.opt = bo.optim.SGD(0.1, module.net)
    with pytest.raises(HostError, match="keep an optimizer beside a module"):
        module.states()
