# SPDX-License-Identifier: Apache-2.0
"""Loops and branches in eager code are compiled once, and follow what changes."""

import copy
import functools
import gc
import pickle
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

XS = jnp.arange(1.0, 5.0)
compilations = 0


def _count(event, duration, **_):
    global compilations
    compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


class Cell(bo.Node):
    """v ← gain v + x, by each kind of loop and branch."""

    def __init__(self, v=1.0):
        self.v = bo.Variable(jnp.array(v))
        self.w = bo.TrainVar(jnp.array(0.5))
        self.gain = 2.0

    def step(self, x):
        self.v.value = self.gain * self.v + self.w * x
        return self.v.value

    def __call__(self, x):
        return self.step(x)

    def carry(self, c, x):
        return c + self.step(x), c

    def count(self, i):
        self.step(1.0)
        return i + 1

    def below(self, i):
        return i < 3

    def rest(self, x):
        return self.v * 1.0


EAGER = {
    "for_loop": lambda cell, of: bo.for_loop(of(cell.step), XS),
    "for_loop of a Node": lambda cell, of: bo.for_loop(of(cell), XS),
    "for_loop, reversed": lambda cell, of: bo.for_loop(of(cell.step), XS, reverse=True),
    "checkpoints": lambda c, of: bo.for_loop(of(c.step), XS, checkpoint_every=2),
    "scan": lambda cell, of: bo.scan(of(cell.carry), 0.0, XS),
    "cond": lambda cell, of: bo.cond(True, of(cell.step), of(cell.rest), 1.0),
    "cond of constants": lambda cell, of: bo.cond(True, of(cell.step), 3.0, 1.0),
    "switch": lambda c, of: bo.switch(1, [of(c.rest), 0.0, of(c.step)], 1.0),
    "ifelse": lambda c, of: bo.ifelse([False, True], [1.0, of(c.step), 2.0], 1.0),
    "while_loop": lambda c, of: bo.while_loop(of(c.count), of(c.below), 0),
    "bounded_while_loop": lambda c, of: bo.bounded_while_loop(
        of(c.count), of(c.below), 0, max_steps=5
    ),
}
HELD = {
    "method": lambda: lambda function: function,
    "function": lambda: functools.cache(lambda f: lambda *args: f(*args)),
    "partial": lambda: functools.cache(lambda f: functools.partial(f)),
    "jit": lambda: functools.cache(bo.jit),
}


def loss(run, cell, of):
    """Return a function that ends in a number which depends on all results."""
    return lambda: sum(jnp.sum(x * 1.0) for x in jax.tree.leaves(run(cell, of)))


WAYS = {
    "eager": lambda f, cell: f,
    "grad": lambda f, cell: bo.grad(f, cell.w, return_value=True),
    "jacrev": lambda f, cell: bo.jacrev(f, cell.w),
    "vmap": lambda f, cell: bo.vmap(lambda _: f(), axes={cell.v: 0}, axis_size=2),
}


def prepared(name, way):
    """Return a cell, and the call of the table's transform in one of the ways."""
    cell = Cell([1.0, 2.0] if way == "vmap" else 1.0)
    of = HELD["method"]()
    call = WAYS[way](loss(EAGER[name], cell, of), cell)
    return cell, (lambda: call(jnp.arange(2)) if way == "vmap" else call())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EAGER)
def test_the_second_call_compiles_nothing(name, way):
    if name == "while_loop" and way in ("grad", "jacrev"):
        pytest.skip("JAX has no reverse mode of it")
    _, call = prepared(name, way)
    call()
    before = compilations

    call()

    assert compilations == before


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("name", EAGER)
def test_each_kind_of_function_is_compiled_once(name, held):
    cell, of = Cell(), HELD[held]()
    EAGER[name](cell, of)
    before = compilations
    EAGER[name](cell, of)
    assert compilations == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EAGER)
def test_calls_in_a_row_give_what_a_compiled_function_gives(name, way):
    if name == "while_loop" and way in ("grad", "jacrev"):
        pytest.skip("JAX has no reverse mode of it")
    (ours, call), (other, expected) = prepared(name, way), prepared(name, way)
    expected = bo.jit(expected)
    for factor in (1.0, 3.0, -1.0):
        ours.w.value = other.w.value = jnp.array(factor)
        for a, b in zip(*map(jax.tree.leaves, (call(), expected())), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
        np.testing.assert_allclose(ours.v.value, other.v.value, rtol=1e-5)


scale = 1.0
deep = {"scales": [1.0]}


def helper():
    """Return what a body reaches through another function."""
    return scale


def _holders():
    """Return ``{name: (a function of x, what sets the number it multiplies by)}``."""
    number, cells = 1.0, [1.0]
    array, settings = jnp.array(1.0), types.SimpleNamespace(gain=1.0)
    options, cell = {"gain": 1.0}, Cell()
    cell.gain = 1.0

    def set_number(value):
        nonlocal number
        number = value

    def set_array(value):
        nonlocal array
        array = jnp.array(value)

    def of_number(x):
        return number * x

    class Plain:
        gain = 1.0

        def run(self, x):
            return self.gain * x

    plain = Plain()
    return {
        "closure": (of_number, set_number),
        "array": (lambda x: array * x, set_array),
        "global": (lambda x: scale * x, lambda v: globals().update(scale=v)),
        "function of a function": (
            lambda x: helper() * x,
            lambda v: globals().update(scale=v),
        ),
        "closure of a closure": (lambda x: of_number(x), set_number),
        "list in place": (
            lambda x: cells[0] * x,
            lambda v: cells.__setitem__(0, v),
        ),
        "dict in place": (
            lambda x: options["gain"] * x,
            lambda v: options.update(gain=v),
        ),
        "list in a dict": (
            lambda x: deep["scales"][0] * x,
            lambda v: deep["scales"].__setitem__(0, v),
        ),
        "attribute of a plain object": (
            lambda x: settings.gain * x,
            lambda v: setattr(settings, "gain", v),
        ),
        "attribute of self": (plain.run, lambda v: setattr(plain, "gain", v)),
        "attribute of a Node": (
            lambda x: cell.gain * x,
            lambda v: setattr(cell, "gain", v),
        ),
    }


OF_X = {
    "for_loop": lambda f: bo.for_loop(f, jnp.ones(2))[1],
    "scan": lambda f: bo.scan(carried(f), 0.0, jnp.ones(2))[0] / 2,
    "cond": lambda f: bo.cond(True, f, 0.0, 1.0),
    "switch": lambda f: bo.switch(0, [f, 0.0], 1.0),
    "while_loop": lambda f: bo.while_loop(following(f), first, (0, 1.0))[1],
    "grad": lambda f: bo.grad(lambda x: bo.for_loop(f, x[None])[0])(jnp.array(1.0)),
    "vmap": lambda f: bo.vmap(lambda x: bo.for_loop(f, x[None])[0])(jnp.ones(1))[0],
}


def first(i, _):
    """Return whether a loop has not run yet."""
    return i < 1


@functools.cache
def carried(f):
    """Return the body of a scan, always the same."""
    return lambda c, x: (c + f(x), x)


@functools.cache
def following(f):
    """Return the body of a while_loop, always the same."""
    return lambda i, x: (i + 1, f(x))


@pytest.mark.parametrize("name", OF_X)
@pytest.mark.parametrize("holder", _holders())
def test_what_a_function_holds_is_followed_and_earlier_programs_serve(holder, name):
    function, change = _holders()[holder]
    run = OF_X[name]
    change(1.0)
    assert float(run(function)) == 1.0
    change(3.0)
    assert float(run(function)) == 3.0
    before = compilations
    change(1.0)
    assert float(run(function)) == 1.0
    assert compilations == before


def test_equal_closures_over_different_values_do_not_share_a_program():
    def times(factor):
        return lambda x: factor * x

    factors = (2.0, 3.0, jnp.array(4.0), jnp.array(5.0))
    results = [float(bo.for_loop(times(f), jnp.ones(1))[0]) for f in factors]
    assert results == [2.0, 3.0, 4.0, 5.0]


def test_a_closure_over_a_tracer_has_its_gradient():
    def of(w):
        return bo.for_loop(lambda x: w * x, XS).sum()

    for w in (1.0, 2.0):
        assert float(bo.grad(lambda w: of(w) * w)(w)) == 20.0 * w


def test_a_function_that_collects_tracers_is_not_kept_with_them():
    seen = []

    def of(w):
        seen.append(w)

        def body(x):
            return seen[-1] * x

        return bo.for_loop(body, XS).sum()

    assert [float(bo.grad(of)(w)) for w in (1.0, 2.0)] == [10.0, 10.0]


@pytest.mark.parametrize("name", EAGER)
def test_models_end_with_the_last_name_of_theirs(name):
    cell = Cell()
    EAGER[name](cell, lambda function: function)
    ref = weakref.ref(cell.v)
    del cell
    gc.collect()
    assert ref() is None


def test_functions_end_with_the_last_name_of_theirs():
    def looped():
        cell = Cell()

        def body(x):
            return cell.step(x)

        bo.for_loop(body, XS)
        return weakref.ref(cell.v)

    ref = looped()
    gc.collect()
    assert ref() is None


def test_fresh_closures_leave_no_program_behind():
    from brainopt.transforms.programs._program import Program

    v = bo.Variable(jnp.zeros(()))

    def once(i):
        def body(x):
            v.value = v + i * x

        bo.for_loop(body, XS)

    once(0.0)
    gc.collect()
    before = sum(isinstance(x, Program) for x in gc.get_objects())
    for i in range(5):
        once(float(i))
    gc.collect()
    assert sum(isinstance(x, Program) for x in gc.get_objects()) == before
    assert float(v) == 100.0


def _twice(x):
    return 2.0 * x


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))],
    ids=["deepcopy", "pickle"],
)
def test_functions_and_nodes_are_copied_as_before(copied):
    assert bo.for_loop(copied(_twice), XS).sum() == bo.for_loop(_twice, XS).sum()
    cell = Cell()
    bo.for_loop(cell, XS)
    other = copied(cell)
    bo.for_loop(other, XS)
    assert float(other.v) != float(cell.v)


def test_cloudpickle_takes_a_local_function_that_was_looped():
    cloudpickle = pytest.importorskip("cloudpickle")
    factor = 3.0

    def body(x):
        return factor * x

    bo.for_loop(body, XS)
    other = cloudpickle.loads(cloudpickle.dumps(body))
    assert bo.for_loop(other, XS).sum() == 30.0


def test_a_wrapper_does_not_take_over_programs():
    bo.for_loop(_twice, XS)

    @functools.wraps(_twice)
    def thrice(x):
        return 3.0 * x

    assert bo.for_loop(thrice, XS).sum() == 30.0
    assert bo.for_loop(_twice, XS).sum() == 20.0


def test_a_failed_loop_leaves_variables_and_no_program():
    cell = Cell()

    def body(x):
        cell.step(x)
        raise KeyError("no")

    for _ in range(2):
        with pytest.raises(KeyError, match="no") as caught:
            bo.for_loop(body, XS)
        assert any(n.startswith("in bo.for_loop of ") for n in caught.value.__notes__)
    assert float(cell.v) == 1.0


@pytest.mark.more
def test_eager_gradients_compile_each_operation_once():
    w = bo.TrainVar(jnp.ones(7))
    gradient = bo.grad(lambda: jnp.sum(jnp.tanh(w * 3.0) ** 2), w)
    # In full caches JAX drops the oldest entry for each new one.
    jax.clear_caches()
    counts = []
    for factor in (0.5, 1.0, 2.0):
        w.value = np.full(7, factor, np.float32)
        t = np.tanh(3 * factor)
        values = np.asarray(gradient())
        np.testing.assert_allclose(values, np.full(7, 6 * t * (1 - t**2)), rtol=0.02)
        counts.append(compilations)
    assert counts[1] == counts[2]
