# SPDX-License-Identifier: Apache-2.0
"""A failure anywhere leaves every Variable as it was, and the next call is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import BrainoptError, StateLostError


class Failing(bo.Node):
    """Three Variables; one step writes the first, may fail, and writes the others."""

    def __init__(self):
        self.a = bo.TrainVar(jnp.ones(4))
        self.b = bo.Variable(jnp.zeros(3), name="b")
        self.rng = bo.RandomState(0)

    def step(self, fail=None):
        self.a.value = self.a.value * 2
        draw = self.rng.uniform()
        if fail is not None:
            fail(self)
        self.b.value = self.b.value + 1
        return (self.a.value**2).sum() + 0 * draw

    def bytes(self):
        rng = jax.random.key_data(self.rng.value)
        return [np.asarray(x).tobytes() for x in (self.a.value, self.b.value, rng)]


def exception(_):
    raise KeyError("mine")


def interrupt(_):
    raise KeyboardInterrupt


def system_exit(_):
    raise SystemExit(3)


def recursion(model):
    recursion(model)


def shape_error(model):
    jnp.ones(3) @ model.a.value


def misshapen_value(model):
    model.b.value = jnp.ones(5)


def other_dtype(model):
    model.b.value = jnp.ones(3, jnp.complex64)


def value_of_a_tracer(model):
    bo.jit(lambda x: bool(x.sum()))(model.a.value)
    raise KeyError("without a tracer it has a value")


def foreign_write(model):
    jax.vmap(lambda x: setattr(model, "b", x))(jnp.ones((2, 3)))


def in_a_loop(model):
    def body(x):
        model.b.value += 1
        raise KeyError("mine")

    bo.for_loop(body, jnp.arange(3.0))


def in_a_while(model):
    def body():
        model.b.value += 1
        raise KeyError("mine")

    bo.while_loop(body, lambda: model.b.value[0] < 5)


def in_a_condition(model):
    def cond():
        model.b.value += 1
        return True

    bo.while_loop(lambda: None, cond)


def in_a_gradient(model):
    def loss():
        model.b.value += 1
        raise KeyError("mine")

    bo.grad(loss, model.a)()


def in_a_branch(model):
    def branch():
        model.b.value += 1
        raise KeyError("mine")

    bo.cond(model.b.value[0] == 0, branch, None)


def in_an_inner_jit(model):
    @bo.jit
    def inner():
        model.b.value += 1
        raise KeyError("mine")

    inner()


def in_a_vmap(model):
    def lane(x):
        model.b.value += 1
        raise KeyError("mine")

    bo.vmap(lane)(jnp.ones(2))


def lanes_that_differ(model):
    def lane(x):
        model.b.value = model.b.value + x

    bo.vmap(lane)(jnp.arange(2.0))


def integer_gradient(model):
    bo.grad(lambda: 1.0, bo.Variable(jnp.array(1)))()


CASES = [
    exception,
    interrupt,
    system_exit,
    recursion,
    shape_error,
    misshapen_value,
    other_dtype,
    value_of_a_tracer,
    foreign_write,
    in_a_loop,
    in_a_while,
    in_a_condition,
    in_a_gradient,
    in_a_branch,
    in_an_inner_jit,
    in_a_vmap,
    lanes_that_differ,
    integer_gradient,
]

TRANSFORMS = {
    "jit": lambda f, m: bo.jit(f),
    "safe jit": lambda f, m: bo.jit(f, safe=True),
    "grad": lambda f, m: bo.grad(f, m.a),
    "jit of grad": lambda f, m: bo.jit(bo.grad(f, m.a)),
    "jacrev": lambda f, m: bo.jacrev(f, m.a),
    "vjp": lambda f, m: lambda: bo.vjp(f, grad_vars=m.a),
    "for_loop": lambda f, m: lambda: bo.for_loop(lambda _: f(), jnp.ones(1)),
    "python loop": lambda f, m: (
        lambda: bo.for_loop(lambda _: f(), jnp.ones(1), jit=False)
    ),
    "while_loop": lambda f, m: (
        lambda: bo.while_loop(lambda i: f() * 0 + 1, lambda i: i < 1, 0.0)
    ),
    "cond": lambda f, m: lambda: bo.cond(True, f, 0.0),
    "switch": lambda f, m: lambda: bo.switch(1, [0.0, f]),
    "remat": lambda f, m: bo.remat(f),
    "vmap": lambda f, m: (
        lambda: bo.vmap(lambda _: f(), axes={m.rng: None})(jnp.ones(1))
    ),
    "eval_shape": lambda f, m: lambda: bo.eval_shape(f),
}


QUICK = {"jit", "grad", "for_loop", "vmap"}
SLOW = [pytest.param(n, marks=pytest.mark.long) for n in TRANSFORMS if n not in QUICK]


@pytest.mark.parametrize("name", [*sorted(QUICK), *SLOW])
@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
def test_a_failed_trace_changes_nothing(case, name):
    model, reference = Failing(), Failing()
    failing = [case]
    run = TRANSFORMS[name](lambda: model.step(*failing), model)
    before = model.bytes()

    with pytest.raises(BaseException) as caught:
        run()
    untouched = model.bytes()
    failing.clear()
    run()
    if name != "eval_shape":
        reference.step()

    assert not isinstance(caught.value, AssertionError)
    assert untouched == before
    assert model.bytes() == reference.bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
def test_a_failed_retrace_changes_nothing(case):
    model, reference = Failing(), Failing()

    def step(x):
        return model.step(case if x.ndim else None)

    jitted = bo.jit(step)
    jitted(jnp.zeros(()))
    before = model.bytes()
    with pytest.raises(BaseException):  # noqa: B017
        jitted(jnp.zeros(1))
    untouched = model.bytes()
    jitted(jnp.zeros(()))
    reference.step()
    reference.step()

    assert untouched == before
    assert model.bytes() == reference.bytes()


def callback_error(_):
    def fail(x):
        raise KeyError("in the callback")

    shape = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.pure_callback(fail, shape, 1.0)


def out_of_memory(model):
    return jnp.broadcast_to(model.a.value[0], (1 << 44,)).cumsum()[-1]


def failing_step(model, fail):
    def step(fails):
        model.step()
        if fails:
            model.b.value += fail(model)

    return step


@pytest.mark.parametrize("fail", [callback_error, out_of_memory])
def test_a_failure_at_run_time_changes_nothing_in_safe_mode(fail):
    model, reference = Failing(), Failing()
    step = bo.jit(failing_step(model, fail), safe=True, static_argnums=0)
    step(False)
    before = model.bytes()
    with pytest.raises(Exception, match=r"callback|memory|allocat|RESOURCE"):
        step(True)
    untouched = model.bytes()
    step(False)
    reference.step()
    reference.step()

    assert untouched == before
    assert model.bytes() == reference.bytes()


def test_nan_checks_use_the_safe_mode_by_themselves():
    v = bo.Variable(jnp.ones(2))

    @bo.jit
    def step(x):
        v.value = v.value / x

    step(2.0)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        step(jnp.nan)
    step(2.0)

    assert v.value.tolist() == [0.25, 0.25]


def test_a_lost_state_is_named_by_path_count_and_step(monkeypatch):
    model = Failing()

    @bo.jit
    def train():
        return model.step()

    train()
    program = train._programs[None]

    def failing_after_donation(donated, *_):
        for value in jax.tree.leaves(donated):
            value.delete()
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(program, "donating", failing_after_donation)

    with pytest.raises(StateLostError, match="safe=True") as caught:
        train()
    assert isinstance(caught.value, BrainoptError)
    assert isinstance(caught.value.__cause__, RuntimeError)
    fact, *lines = str(caught.value).splitlines()
    assert "train (" in fact and "test_failures.py:" in fact
    assert "of the 3 Variables that it overwrites the values of 3 are gone" in fact
    assert sorted(lines[:3]) == ["  model.a", "  model.b", "  model.rng"]


def test_a_step_that_failed_once_is_as_fast_as_any_afterwards(counted):
    """JAX keeps to its slow road where a first trace failed; a new program does not."""
    v, failing = bo.Variable(jnp.array(0.0)), [True]

    @counted
    def step(x):
        v.value += x
        if failing:
            raise KeyError("mine")

    jitted = bo.jit(step)
    for _ in range(2):
        with pytest.raises(KeyError):
            jitted(1.0)
    failing.clear()
    jitted(1.0)
    program = jitted._programs[None]
    jitted(1.0)

    assert float(v) == 2.0
    assert not program.broken
    assert step.traces == 4
