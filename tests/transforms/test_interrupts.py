# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at random moments leaves the old state or the new one, never half."""

import random
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import runtime

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer"),
]


class Model(bo.Node):
    def __init__(self):
        self.w = [bo.Variable(jnp.zeros(3)) for _ in range(24)]

    def step(self):
        for v in self.w:
            v.value += 1


def interrupted(step, rounds):
    """Call ``step`` with a Ctrl-C at a random moment; return the number that hit."""
    assert threading.current_thread() is threading.main_thread()

    def strike(*_):
        raise KeyboardInterrupt

    step()
    step()
    start = time.perf_counter()
    for _ in range(20):
        step()
    once = (time.perf_counter() - start) / 20
    rng = random.Random(0)
    hits = 0
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(rounds):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + rng.random() * once * 1.5)
                step()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except BaseException:
                # Inside JAX's own Python a Ctrl-C may surface as something else.
                hits += 1
            yield hits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(model, step, rounds):
    half = hits = done = earlier = 0
    steps = interrupted(step, rounds)
    while done < rounds:
        try:
            hits = earlier + next(steps)
            done += 1
            # Not each time: where nobody looks, the values stay with the step.
            if done % 3 == 0:
                values = np.stack([np.asarray(v.value) for v in model.w])
                half += int((values != values[0, 0]).any())
        except KeyboardInterrupt:  # it fell between two rounds
            steps, earlier = interrupted(step, rounds - done), hits
    steps.close()
    before = float(model.w[0][0])
    step()
    step()
    assert float(model.w[-1][0]) == before + 2
    return half, hits


COUNTS = [250, pytest.param(2000, marks=pytest.mark.long)]
COUNTS += [pytest.param(50_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("rounds", COUNTS)
@pytest.mark.parametrize("options", [{}, {"safe": True}], ids=str)
def test_a_compiled_step_is_whole(options, rounds):
    model = Model()

    half, hits = check(model, bo.jit(model.step, **options), rounds)

    assert half == 0
    assert hits > rounds / 25


@pytest.mark.parametrize("rounds", COUNTS)
def test_looking_at_one_value_after_a_step_is_whole(rounds):
    model = Model()
    compiled = bo.jit(model.step)

    def step():
        compiled()
        return model.w[3].value

    half, hits = check(model, step, rounds)

    assert half == 0
    assert hits > rounds / 25


@pytest.mark.parametrize("rounds", COUNTS)
def test_an_eager_commit_is_whole(rounds):
    model = Model()

    def step():
        runtime.commit(model.w, [v.value + 1 for v in model.w])

    half, hits = check(model, step, rounds)

    assert half == 0
    assert hits > rounds / 25


@pytest.mark.more
@pytest.mark.parametrize("rounds", COUNTS)
def test_a_traced_step_is_whole(rounds):
    model = Model()

    def step():
        # A new function, so that the loop is traced at each call.
        bo.for_loop(lambda: model.step(), length=1)

    half, hits = check(model, step, rounds // 10)

    assert half == 0
    assert hits > rounds / 100
