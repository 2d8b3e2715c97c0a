# SPDX-License-Identifier: Apache-2.0
"""The values of a step that runs again and again stay with it until somebody looks."""

import gc
import pickle
import threading
import weakref

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.runtime import storage


class Pair(bo.Node):
    def __init__(self):
        self.a = bo.Variable((1000,))  # a shape, so no first value is kept
        self.b = bo.Variable((1000,))  # a shape, so no first value is kept

    def step(self):
        self.a.value += 1
        self.b.value = self.a.value * 10

    def look(self):
        return float(self.a.value[0]), float(self.b.value[0])


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture
def step(pair):
    step = bo.jit(pair.step)
    for _ in range(3):
        step()
    assert storage.resident is not None and pair.a in storage.resident.slots
    return step


def bytes_alive():
    gc.collect()
    return sum(x.nbytes for x in jax.live_arrays() if not x.is_deleted())


def test_reading_one_value_shows_the_last_step(pair, step):
    assert float(pair.a.value[0]) == 3
    step()
    assert float(pair.b.value[0]) == 40


def test_writing_one_value_is_seen_by_the_next_step(pair, step):
    pair.a.value = jnp.full(1000, 100.0)
    step()

    assert pair.look() == (101, 1010)


def test_two_steps_on_one_model_take_turns(pair, step):
    @bo.jit
    def halve():
        pair.a.value /= 2

    for _ in range(3):
        halve()
        step()

    assert pair.look() == (0.375 + 0.5 + 1 + 0.25, 21.25)


def test_a_step_that_only_reads_sees_the_last_values(pair, step):
    total = bo.jit(lambda: pair.a.value.sum() + pair.b.value.sum())

    assert float(total()) == 33_000
    step()
    assert float(total()) == 44_000


def test_another_thread_sees_the_last_step(pair, step):
    seen = []
    reader = threading.Thread(target=lambda: seen.append(pair.look()))
    reader.start()
    reader.join()

    assert seen == [(3, 30)]


@pytest.mark.parametrize(
    "take",
    [
        lambda pair: pair.state_dict()["a"],
        lambda pair: pickle.loads(pickle.dumps(pair)).a.value,
        lambda pair: jax.tree.leaves(pair)[0],
        lambda pair: bo.make_jaxpr(lambda: pair.a.value)() and pair.a.value,
        lambda pair: bo.grad(lambda: pair.a.value.sum(), pair.a)() * pair.a.value,
        lambda pair: jax.jit(lambda: pair.a.value)(),
    ],
    ids=["state_dict", "pickle", "leaves", "make_jaxpr", "grad", "jax.jit"],
)
def test_every_way_of_looking_sees_the_last_step(pair, step, take):
    taken = take(pair)
    step()

    assert float(taken[0]) == 3


def test_a_failed_trace_leaves_the_last_step(pair, step):
    @bo.jit
    def fail():
        pair.a.value = jnp.zeros(1000)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert pair.look() == (3, 30)


def test_no_second_copy_of_the_state_stays_alive(pair, step):
    pair.look()
    before = bytes_alive()
    for _ in range(3):
        step()

    assert bytes_alive() <= before


def test_a_value_that_is_only_written_leaves_no_copy_behind():
    v = bo.Variable(jnp.zeros(1000))
    before = bytes_alive()

    @bo.jit
    def step(x):
        v.value = jnp.full(1000, x)

    for x in range(4):
        step(float(x))

    assert bytes_alive() == before


def test_a_variable_that_is_not_donated_is_written_each_time(pair):
    batch = bo.Variable(jnp.zeros((2, 3)), batch_axis=0)

    @bo.jit
    def step():
        pair.step()
        batch.value += 1

    for _ in range(4):
        step()

    assert batch.value.tolist() == [[4.0] * 3] * 2
    assert pair.look() == (4, 40)


def test_the_result_of_a_step_is_not_kept(pair):
    step = bo.jit(lambda: (pair.step(), jnp.zeros(100_000))[1])
    before = bytes_alive()
    for _ in range(3):
        step()

    assert bytes_alive() <= before


def test_a_model_that_nobody_holds_is_freed():
    before = bytes_alive()
    pair = Pair()
    step = bo.jit(pair.step)
    for _ in range(3):
        step()
    del pair, step

    assert bytes_alive() == before


def test_values_outlive_the_step_that_kept_them(pair):
    step = bo.jit(pair.step)
    for _ in range(3):
        step()
    del step
    gc.collect()

    assert pair.look() == (3, 30)


def test_dropping_a_step_does_not_wait_for_one_that_runs(pair):
    step = bo.jit(pair.step)
    for _ in range(3):
        step()
    dropped = weakref.ref(step)
    holder = [step]
    holder.append(holder)  # only the garbage collector frees it
    del step, holder
    taken, free = threading.Event(), threading.Event()

    def run_for_long():
        with storage.lock:
            taken.set()
            assert free.wait(20)

    thread = threading.Thread(target=run_for_long)
    thread.start()
    taken.wait(20)

    gc.collect()

    assert dropped() is None and thread.is_alive()
    free.set()
    thread.join()
    assert pair.look() == (3, 30)


class Trio:
    """Three Variables, what can be done with them, and the same in NumPy."""

    def __init__(self):
        self.real = [bo.Variable(jnp.full(3, float(i))) for i in range(3)]
        self.model = [np.full(3, float(i), np.float32) for i in range(3)]
        self.held = []
        a, b, c = self.real

        def both():
            a.value, b.value = b.value + 1, a.value
            return a.value.sum()

        def overlap():
            b.value = b.value + c.value
            c.value = c.value * 0.5

        self.both, self.overlap = bo.jit(both), bo.jit(overlap)
        self.safe, self.still = bo.jit(overlap, safe=True), bo.jit(lambda: b + c)
        self.failing = bo.jit(lambda: b.value.at[0].set(0.0) + jnp.zeros(4))

    def step_both(self):
        a, b, c = self.model
        self.model = [b + 1, a, c]
        assert float(self.both()) == float((b + 1).sum())

    def step_overlap(self, run=None):
        a, b, c = self.model
        self.model = [a, b + c, c * np.float32(0.5)]
        (run or self.overlap)()

    def step_safe(self):
        self.step_overlap(self.safe)

    def only_read(self):
        assert self.still().tolist() == (self.model[1] + self.model[2]).tolist()

    def fail(self):
        with pytest.raises(TypeError):
            self.failing()

    def hold(self):
        self.held.append((self.real[0].value, self.model[0].copy()))

    def look(self):
        assert self.real[1].value.tolist() == self.model[1].tolist()

    def assign(self):
        self.real[2].value = jnp.full(3, 7.0)
        self.model[2] = np.full(3, 7.0, np.float32)

    def eager(self):
        self.real[0].value += 1
        self.model[0] = self.model[0] + 1

    def share(self):
        self.real[1].value = self.real[0].value
        self.model[1] = self.model[0].copy()

    def elsewhere(self):
        thread = threading.Thread(target=self.step_overlap)
        thread.start()
        thread.join()

    def check(self):
        for real, model in zip(self.real, self.model, strict=True):
            assert real.value.tolist() == model.tolist()
        for held, model in self.held:
            assert held.tolist() == model.tolist()


MOVES = [k for k, v in vars(Trio).items() if callable(v) and not k.startswith("_")]


@pytest.mark.more
@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(st.sampled_from([m for m in MOVES if m != "check"])))
def test_any_order_of_steps_and_looks_is_as_in_numpy(moves):
    trio = Trio()
    for move in moves:
        getattr(trio, move)()
    trio.check()
