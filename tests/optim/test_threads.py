# SPDX-License-Identifier: Apache-2.0
"""Eager calls that read, compute and write: threads lose none, and each is whole."""

import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

THREADS, CALLS = 4, 6
G = {"w": jnp.array([1.0, -2.0])}


@pytest.fixture(autouse=True)
def _switches_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(function, threads=THREADS):
    """Run ``function(i)`` in threads that start at once; raise the first error."""
    errors, barrier = [], threading.Barrier(threads)

    def run(i):
        try:
            barrier.wait(10)
            function(i)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)
    if errors:
        raise errors[0]


def _weights():
    return {"w": bo.TrainVar(jnp.array([0.5, 0.25]))}


def _trained(make, call):
    """Return a Node with an optimizer and its weights, and a call of the optimizer."""
    node = bo.Node()
    node.params = _weights()
    node.opt = make(node.params)
    return node, lambda: call(node.opt, node.params["w"])


def _holder(held, call):
    node = bo.Node()
    node.held = held
    return node, lambda: call(held)


def _update(opt, _):
    opt.update(G)


def _step(opt, w):
    # Linear, so that the gradient is the same at all weights.
    opt.step(lambda: w @ G["w"])


def _add_one(v):
    v += 1


def _add_to_a_part(v):
    part = bo.VariableView(v, 0)
    part += 1


optim = bo.optim
MADE = {
    "SGD.update": lambda: _trained(lambda p: optim.SGD(0.1, p), _update),
    "AdamW.update": lambda: _trained(lambda p: optim.AdamW(0.1, p), _update),
    "AdamW, accumulated": lambda: _trained(
        lambda p: optim.AdamW(0.1, p, accumulate=3, clip_norm=1.0), _update
    ),
    "AdamW.update with None": lambda: _trained(
        lambda p: optim.AdamW(0.1, p), lambda opt, _: opt.update({"w": None})
    ),
    "AdamW.step": lambda: _trained(lambda p: optim.AdamW(0.1, p), _step),
    "Lookahead.update": lambda: _trained(
        lambda p: optim.Lookahead(optim.SGD(0.1, p), 3), _update
    ),
    "SAM.step": lambda: _trained(lambda p: optim.SAM(optim.SGD(0.1, p)), _step),
    "EMA.update": lambda: _trained(optim.EMA, lambda ema, _: ema.update()),
    "RLS.update": lambda: _trained(
        optim.RLS, lambda opt, _: opt.update(jnp.ones(2), jnp.ones(()))
    ),
    "step_epoch": lambda: _holder(optim.StepLR(0.1, 3), lambda s: s.step_epoch()),
    "step_call": lambda: _holder(optim.StepLR(0.1, 3), lambda s: s.step_call()),
    "step_metric": lambda: _holder(
        optim.ReduceLROnPlateau(0.1, patience=2), lambda s: s.step_metric(1.0)
    ),
    "Average.add": lambda: _holder(bo.Average(), lambda a: a.add(jnp.ones(3))),
    "split_key": lambda: _holder(bo.RandomState(0), lambda r: r.split_key()),
    "split_keys": lambda: _holder(bo.RandomState(0), lambda r: r.split_keys(2)),
    "+=": lambda: _holder(bo.Variable(jnp.zeros(2)), _add_one),
    "+= of a part": lambda: _holder(bo.Variable(jnp.zeros(2)), _add_to_a_part),
}


def _state(node):
    found = {path: v.value for path, v in node.vars().items()}
    return {
        path: jax.random.key_data(x)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else np.asarray(x)
        for path, x in found.items()
    }


@pytest.mark.parametrize("name", MADE)
def test_calls_in_threads_are_calls_one_after_the_other(name):
    node, call = MADE[name]()
    alone, call_alone = MADE[name]()

    calls = 1 if name == "SAM.step" else CALLS  # it traces at each call

    together(lambda _: [call() for _ in range(calls)])
    for _ in range(THREADS * calls):
        call_alone()

    seen, wanted = _state(node), _state(alone)
    assert seen.keys() == wanted.keys()
    for path in wanted:
        np.testing.assert_array_equal(seen[path], wanted[path], path)


def test_eager_updates_and_compiled_steps_of_one_optimizer_lose_none():
    node, update = MADE["AdamW.update"]()
    alone, update_alone = MADE["AdamW.update"]()
    step = bo.jit(update)

    together(lambda i: [(update, step)[i % 2]() for _ in range(CALLS)])
    for _ in range(THREADS * CALLS):
        update_alone()

    assert int(node.opt.step.value) == THREADS * CALLS
    for path, value in _state(alone).items():
        np.testing.assert_allclose(_state(node)[path], value, 1e-5, err_msg=path)
