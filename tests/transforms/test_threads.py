# SPDX-License-Identifier: Apache-2.0
"""Threads: whole steps, whole snapshots, and never a tracer."""

import faulthandler
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo


class Pair(bo.Node):
    """Two Variables that every step makes equal."""

    def __init__(self, size=4):
        self.a = bo.Variable(jnp.zeros(size))
        self.b = bo.Variable(jnp.zeros(size))

    def step(self):
        new = self.a.value + 1
        self.a.value = new
        self.b.value = new * 1.0


def together(*functions):
    """Run functions in threads at once; raise the first error of any."""
    errors = []
    barrier = threading.Barrier(len(functions))

    def guarded(function):
        try:
            barrier.wait(10)
            function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions
    ]
    end = time.monotonic() + 60
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback(all_threads=True)
        pytest.fail("threads wait for each other; standard error says where")


@pytest.mark.parametrize("options", [{}, {"donate": False}, {"safe": True}], ids=str)
def test_no_update_of_one_model_is_lost(options):
    model = Pair()
    step = bo.jit(model.step, **options)

    def train():
        for _ in range(50):
            step()

    together(*[train] * 4)

    assert model.a.value.tolist() == model.b.value.tolist() == [200.0] * 4


def test_threads_with_models_of_their_own_are_right():
    models = [Pair() for _ in range(4)]

    def trainer(model):
        def train():
            step = bo.jit(model.step)
            for _ in range(50):
                step()
            bo.grad(lambda: model.a.value.sum(), model.a)()

        return train

    together(*map(trainer, models))

    assert all(m.b.value.tolist() == [50.0] * 4 for m in models)


def test_one_function_first_called_by_many_threads_is_right():
    models = [Pair() for _ in range(4)]
    step = bo.jit(lambda model: model.step())

    together(*[lambda m=m: [step(m) for _ in range(20)] for m in models])

    assert [m.b.value.tolist() for m in models] == [[20.0] * 4] * 4


def test_snapshots_are_never_torn_and_reads_never_fail():
    model = Pair(64)
    step = bo.jit(model.step)
    stop = threading.Event()
    seen = []

    def train():
        while not stop.is_set():
            step()

    def save():
        try:
            for _ in range(300):
                state = model.state_dict()
                one = np.asarray(model.a.value)
                seen.append((np.array(state["a"]), np.array(state["b"]), one.copy()))
        finally:
            stop.set()

    together(train, save)

    assert all((a == b).all() and (a == a[0]).all() for a, b, _ in seen)
    assert all((one == one[0]).all() for _, _, one in seen)
    firsts = [a[0] for a, _, _ in seen]
    assert firsts == sorted(firsts)


def test_another_thread_never_sees_a_tracer():
    model = Pair()
    tracing, read = threading.Event(), threading.Event()
    seen = []

    @bo.jit
    def step():
        model.step()
        tracing.set()
        read.wait(10)

    def reader():
        tracing.wait(10)
        for _ in range(500):
            seen.append(model.a.value)
            seen.append(model.state_dict()["b"])
        read.set()

    together(step, reader)

    assert not any(isinstance(x, jax.core.Tracer) for x in seen)
    assert {float(x[0]) for x in seen} == {0.0}
    assert model.a.value.tolist() == [1.0] * 4


def test_a_thread_that_compiles_does_not_block_others():
    slow, quick = Pair(), Pair()
    tracing, done = threading.Event(), threading.Event()

    @bo.jit
    def compiles(x):
        slow.step()
        tracing.set()
        assert done.wait(30), "the other thread was blocked"

    def other():
        step = bo.jit(quick.step)
        for shape in ((), (2,)):
            tracing.wait(30)
            step()
            slow.state_dict()
            tracing.clear()
            done.set()
            time.sleep(0.01 * len(shape))

    compiles_twice = lambda: compiles(jnp.zeros(()))  # noqa: E731
    together(compiles_twice, other)
    done.clear()
    tracing.clear()

    def another_shape():
        compiles(jnp.zeros(3))

    def helper():
        tracing.wait(30)
        bo.jit(quick.step)()
        done.set()

    together(another_shape, helper)

    assert slow.b.value.tolist() == [2.0] * 4
    assert quick.a.value.tolist() == [3.0] * 4


def test_an_eager_load_falls_before_or_after_a_step():
    model = Pair()
    step = bo.jit(model.step)
    state = {"a": jnp.full(4, -1e6), "b": jnp.full(4, -1e6)}
    torn = []

    def train():
        for _ in range(200):
            step()

    def load():
        for _ in range(50):
            model.load_state_dict(state)
            now = model.state_dict()
            torn.append(bool((now["a"] != now["b"]).any()))

    together(train, load)

    assert not any(torn)


def test_a_callback_may_read_what_its_step_does_not_take():
    model, constant = Pair(), bo.Variable([3.0])
    seen = []

    @bo.jit
    def step():
        model.step()
        jax.debug.callback(lambda: seen.append(float(constant.value[0])))
        return constant.value

    step()
    step()
    jax.effects_barrier()

    assert seen == [3.0, 3.0]
