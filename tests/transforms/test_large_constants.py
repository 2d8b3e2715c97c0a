# SPDX-License-Identifier: Apache-2.0
"""Large arrays that a function closes over are inputs of its program."""

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

N = 200  # N × N float32 are 160,000 bytes
W = np.random.default_rng(0).normal(size=(N, N)).astype(np.float32) / N
GLOBAL = jnp.asarray(W)


class Net(bo.Node):
    def __init__(self, w):
        self.v, self.w = bo.Variable(jnp.ones(N)), w

    def step(self):
        self.v.value = self.w @ self.v + 1


class Group(bo.Node):
    def __init__(self, w):
        self.net = Net(w)
        self.v = self.net.v

    def step(self):
        self.net.step()


def on_node(w):
    net = Net(w)
    return net.v, net.step


def on_child(w):
    group = Group(w)
    return group.v, group.step


def in_closure(w):
    v = bo.Variable(jnp.ones(N))

    def step():
        v.value = w @ v + 1

    return v, step


def in_global(w):
    v = bo.Variable(jnp.ones(N))

    def step():
        v.value = GLOBAL @ v + 1

    return v, step


HOLDERS = {f.__name__: f for f in (on_node, on_child, in_closure, in_global)}
KINDS = {"jax": jnp.asarray, "numpy": np.asarray}
STEPS = 3


def looped(step):
    return bo.jit(lambda: bo.for_loop(step, length=STEPS))


def repeated(wrap):
    def make(step):
        compiled = wrap(step)

        def run():
            for _ in range(STEPS):
                compiled()

        return run

    return make


def branched(step):
    return bo.cond(True, step, lambda: None)


ROADS = {
    "jit": repeated(bo.jit),
    "jit of jit": repeated(lambda f: bo.jit(bo.jit(f))),
    "safe": repeated(lambda f: bo.jit(f, safe=True)),
    "not donating": repeated(lambda f: bo.jit(f, donate=False)),
    "loop in jit": looped,
    "eager loop": lambda f: lambda: bo.for_loop(f, length=STEPS),
    "cond in jit": repeated(lambda f: bo.jit(lambda: branched(f))),
    "remat in jit": repeated(lambda f: bo.jit(bo.remat(f))),
}


def expected():
    v = np.ones(N, np.float64)
    for _ in range(STEPS):
        v = W.astype(np.float64) @ v + 1
    return v


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_the_values_are_right(holder, kind, road):
    v, step = HOLDERS[holder](KINDS[kind](W))
    ROADS[road](step)()
    np.testing.assert_allclose(v.value, expected(), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_no_large_constant_stays_in_the_code(holder, kind):
    _, step = HOLDERS[holder](KINDS[kind](W))
    traced = bo.jit(step).trace()
    sizes = [np.asarray(x).nbytes for x in traced.jaxpr.consts]
    assert sum(sizes) < 1000
    assert len(traced.lower().as_text()) < 10_000


def test_a_small_constant_stays_a_constant():
    small = jnp.arange(100.0)
    v = bo.Variable(jnp.ones(100))
    traced = bo.jit(lambda: v.value * small).trace()
    assert any(x.shape == (100,) for x in traced.jaxpr.consts)


@pytest.mark.parametrize("road", ["jit", "loop in jit", "safe"])
def test_a_replaced_array_is_seen(road):
    net = Net(jnp.asarray(W))
    run = ROADS[road](net.step)
    run()
    net.v.value, net.w = jnp.ones(N), jnp.zeros((N, N))
    run()
    np.testing.assert_array_equal(net.v.value, np.ones(N))


def test_it_is_compiled_once():
    net = Net(jnp.asarray(W))
    step = bo.jit(net.step)
    for _ in range(4):
        step()
    # One trace finds the constant; only the second, with an input, is compiled.
    assert step.compiles == 1
    with bo.assert_compiles_at_most(0):
        step()


def test_another_thread_may_compile_in_between():
    searching, compiled, traces = threading.Event(), threading.Event(), []
    v = bo.Variable(jnp.zeros(()))

    @bo.jit
    def step(x):
        v.value = v.value + 1
        if x.shape == (2,):
            traces.append(x)
            if len(traces) == 2:  # the first trace that is searched
                searching.set()
                compiled.wait(60)
        return (jnp.asarray(W) * x.sum()).sum()

    def other():
        searching.wait(60)
        step(jnp.ones(3))
        compiled.set()

    with bo.assert_compiles_at_most(9):
        thread = threading.Thread(target=other)
        thread.start()
        step(jnp.ones(2))
        thread.join()
    assert v.value == 2


def test_an_array_is_not_donated():
    w = jnp.asarray(W)
    net = Net(w)
    step = bo.jit(net.step)
    for _ in range(3):
        step()
    assert not w.is_deleted()
    np.testing.assert_array_equal(w, W)


def test_a_constant_made_anew_in_each_trace_ends_the_search():
    rng = np.random.default_rng(0)
    v = bo.Variable(jnp.ones(N))

    @bo.jit
    def step():
        v.value = v + jnp.asarray(rng.normal(size=(N, N)).astype(np.float32)).sum(0)

    step()
    first = np.asarray(v.value)
    step()
    np.testing.assert_allclose(v.value - first, first - 1, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(2,), (5,)])
def test_another_shape_of_the_arguments_finds_it_too(shape):
    w = jnp.asarray(W)
    f = bo.jit(lambda x: w[0, 0] * x + w.sum() * 0)
    for dims in ((3,), shape):
        np.testing.assert_allclose(f(jnp.ones(dims)), np.full(dims, W[0, 0]), rtol=1e-6)


def test_gradients_pass_it():
    w = jnp.asarray(W)
    v = bo.TrainVar(jnp.ones(N))
    grad = bo.jit(bo.grad(lambda: ((w @ v.value) ** 2).sum(), v))
    np.testing.assert_allclose(grad(), 2 * W.T @ (W @ np.ones(N)), rtol=1e-4, atol=1e-6)


def test_a_moved_model_takes_it_along():
    there = jax.devices()[1]
    net = Net(jnp.asarray(W))
    step = bo.jit(net.step)
    step()
    net.to(there)
    net.v.value = jax.device_put(jnp.ones(N), there)
    for _ in range(STEPS):
        step()
    assert net.v.value.devices() == {there}
    np.testing.assert_allclose(net.v.value, expected(), rtol=1e-5)


def test_it_ends_with_the_function():
    net = Net(jnp.asarray(W) + 0)
    ref = weakref.ref(net.w)
    step = bo.jit(net.step)
    step()
    del step, net
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize(("size", "kept"), [(2**21, True), (2**23, False)])
def test_index_arrays_become_inputs_where_they_are_larger(size, kept):
    index = jnp.zeros((size // 4,), jnp.int32).at[0].set(3)
    v = bo.Variable(jnp.arange(5.0))
    step = bo.jit(lambda: v.value[index][:2])
    assert any(x.nbytes >= size for x in step.trace().jaxpr.consts) is kept
    np.testing.assert_array_equal(step(), [3, 0])
