# SPDX-License-Identifier: Apache-2.0
"""Donation cannot bite: what anybody still holds stays; nothing else is copied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.transforms.programs import _questions


class Net(bo.Node):
    def __init__(self):
        self.w = bo.TrainVar(jnp.arange(4.0))
        self.b = bo.TrainVar(jnp.ones(2))


def stepper(net):
    @bo.jit
    def step():
        net.w.value += 1
        net.b.value *= 2

    return step


def by_name(net):
    held = net.w.value
    return lambda: held


def by_numpy_view(net):
    held = np.asarray(net.w.value)
    return lambda: held


def by_numpy_slice(net):
    held = np.asarray(net.w.value)[:]
    return lambda: held


def by_memoryview(net):
    held = memoryview(net.w.value)
    return lambda: np.asarray(held)


def by_dlpack(net):
    held = np.from_dlpack(net.w.value)
    return lambda: held


def by_jax_dlpack(net):
    held = jax.dlpack.from_dlpack(net.w.value)
    return lambda: held


def by_another_variable(net):
    held = bo.Variable(net.w.value)
    return lambda: held.value


def by_an_element_of_a_list(net):
    held = [[net.w.value]]
    return lambda: held[0][0]


def by_a_state_dict(net):
    held = net.state_dict()
    return lambda: held["w"]


def by_flattened_leaves(net):
    held = jax.tree.leaves(net)
    return lambda: next(leaf for leaf in held if leaf.shape == (4,))


def by_a_copy_of_the_node(net):
    held = jax.tree.map(lambda x: x, net)
    return lambda: held.w.value


def by_a_closure_of_jax(net):
    held = jax.tree_util.Partial(jnp.add, net.w.value)
    return lambda: held(0.0)


HOLDERS = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("hold", HOLDERS, ids=lambda f: f.__name__)
def test_what_is_held_stays_readable_and_unchanged(hold):
    net = Net()
    step = stepper(net)
    step()
    held = hold(net)
    for _ in range(3):
        step()

    np.testing.assert_array_equal(np.asarray(held()), [1.0, 2.0, 3.0, 4.0])
    assert net.w.value.tolist() == [4.0, 5.0, 6.0, 7.0]


@pytest.fixture
def copies(monkeypatch):
    """Return the list of arrays copied by steps."""
    made = []
    copy = jnp.copy

    def counted(x):
        made.append(x.shape)
        return copy(x)

    monkeypatch.setattr(_questions.jnp, "copy", counted)
    return made


def test_nothing_is_copied_when_nobody_holds_it(copies):
    net = Net()
    step = stepper(net)
    for _ in range(5):
        step()
    net.w.value.tolist()
    net.state_dict()
    step()

    assert copies == []


def test_only_what_is_held_is_copied_and_only_while_it_is(copies):
    net = Net()
    step = stepper(net)
    step()
    held = net.w.value
    step()
    del held
    step()

    assert copies == [(4,)]


def test_the_buffer_is_reused():
    net = Net()
    net.w.value = net.w.value + 0
    step = stepper(net)
    step()
    before = net.w.value.unsafe_buffer_pointer()
    step()

    assert net.w.value.unsafe_buffer_pointer() == before


def test_two_variables_may_share_an_array():
    array = jnp.arange(3.0)
    a, b = bo.Variable(array), bo.Variable(array)

    @bo.jit
    def step():
        a.value += 1
        b.value *= 10

    step()
    step()

    assert a.value.tolist() == [2.0, 3.0, 4.0]
    assert b.value.tolist() == [0.0, 100.0, 200.0]
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_variables_may_swap_values():
    a, b = bo.Variable([1.0, 1.0]), bo.Variable([2.0, 2.0])

    @bo.jit
    def swap():
        a.value, b.value = b.value, a.value

    for _ in range(3):
        swap()

    assert (a.value.tolist(), b.value.tolist()) == ([2.0, 2.0], [1.0, 1.0])


def test_an_argument_may_become_the_value():
    v = bo.Variable(jnp.zeros(3))

    @bo.jit
    def store(x):
        old = v.value.sum()
        v.value = x
        return old

    x = jnp.arange(3.0)
    results = [float(store(x)) for _ in range(3)]

    assert results == [0.0, 3.0, 3.0]
    assert x.tolist() == [0.0, 1.0, 2.0]


def test_a_returned_value_survives_the_next_step():
    v, w = bo.Variable(jnp.zeros(2)), bo.Variable(jnp.ones(2))

    @bo.jit
    def step():
        v.value += 1
        return v.value, w.value

    @bo.jit
    def change_w():
        w.value += 1

    first, ones = step()
    step()
    change_w()

    assert (first.tolist(), ones.tolist()) == ([1.0, 1.0], [1.0, 1.0])


def test_random_keys_are_held_like_arrays():
    rng = bo.RandomState(0)
    held = rng.value
    step = bo.jit(lambda: rng.uniform())
    first = step()
    step()
    again = bo.RandomState(held)

    assert float(again.uniform()) == float(first)


def test_leaves_of_a_pytree_value_survive():
    v = bo.Variable({"a": jnp.zeros(2), "b": [jnp.ones(2)]})

    @bo.jit
    def step():
        v.value = jax.tree.map(lambda x: x + 1, v.value)

    step()
    leaf, container = v.value["a"], v.value["b"]
    step()

    assert (leaf.tolist(), container[0].tolist()) == ([1.0, 1.0], [2.0, 2.0])


def test_values_are_kept_without_donation(copies):
    net = Net()

    @bo.jit(donate=False)
    def step():
        net.w.value += 1

    before = net.w.value
    step()

    assert copies == []
    assert before.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_jit_inside_an_eager_grad_donates_nothing():
    w = bo.TrainVar(jnp.ones(3))
    seen = bo.Variable(jnp.zeros(()))

    @bo.jit
    def loss():
        seen.value += 1
        return (w**2).sum()

    loss()
    grads = bo.grad(loss, w)()
    total = jax.vmap(lambda x: x * bo.jit(lambda: w.value.sum())())(jnp.ones(2))

    assert grads.tolist() == [2.0, 2.0, 2.0]
    assert w.value.tolist() == [1.0, 1.0, 1.0]
    assert total.tolist() == [3.0, 3.0]
    assert float(seen) == 2.0
