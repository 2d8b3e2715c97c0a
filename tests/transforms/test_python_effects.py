# SPDX-License-Identifier: Apache-2.0
"""What a traced function does to Nodes in Python is done once, however often it ran."""

import jax.numpy as jnp
import pytest

import brainopt as bo


class Net(bo.Node):
    def __init__(self):
        self.w = bo.Variable(jnp.ones(()))
        self.calls, self.log, self.seen = 0, [], {}

    def tick(self, *_):
        self.calls += 1
        self.log.append(f"call {self.calls}")
        self.seen[self.calls] = len(self.log)
        self.w.value = self.w.value + 1
        return self.w.value


TRANSFORMS = {
    "for_loop": lambda f: lambda: bo.for_loop(f, jnp.arange(3)),
    "scan": lambda f: lambda: bo.scan(lambda c, x: (c, f()), 0.0, jnp.arange(3)),
    "while_loop": lambda f: (
        lambda: bo.while_loop(lambda i: (f(), i + 1)[1], lambda i: i < 3, 0)
    ),
    "cond": lambda f: lambda: bo.cond(jnp.array(True), f, lambda: jnp.ones(())),
    "switch": lambda f: lambda: bo.switch(1, [lambda: jnp.ones(()), f]),
    "grad": lambda f: bo.grad(f, bo.Variable(1.0), allow_unused=True),
    "remat": bo.remat,
    "vmap": lambda f: lambda: bo.vmap(f, discard=True)(jnp.arange(3)),
    "jit": bo.jit,
}
AROUND = {
    "eager": lambda f: f,
    "jit": bo.jit,
    "jit of jit": lambda f: bo.jit(bo.jit(f)),
}


@pytest.mark.filterwarnings("ignore::brainopt.errors.TracingWarning")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("around", AROUND)
def test_a_first_call_changes_attributes_lists_and_dicts_once(transform, around):
    net = Net()

    def program():
        net.tick()
        TRANSFORMS[transform](net.tick)()
        net.tick()

    AROUND[around](program)()

    assert net.calls == 3
    assert net.log == ["call 1", "call 2", "call 3"]
    assert net.seen == {1: 1, 2: 2, 3: 3}


@pytest.mark.filterwarnings("ignore::brainopt.errors.TracingWarning")
def test_the_compiled_number_is_that_of_one_run():
    net = Net()
    step = bo.jit(lambda: net.tick() * 0 + net.calls)

    assert [float(step()) for _ in range(3)] == [1, 1, 1]


def test_what_is_made_in_a_first_call_is_made_once():
    net, made = Net(), []

    def table():
        if not hasattr(net, "table"):
            net.table = tuple(range(4))
            made.append(1)
        return net.w.value * net.table[2]

    step = bo.jit(table)

    assert float(step()) == 2 and net.table == (0, 1, 2, 3)
    assert float(step()) == 2 and step.compiles <= 2
