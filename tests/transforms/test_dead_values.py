# SPDX-License-Identifier: Apache-2.0
"""Arrays of a trace in plain attributes: none stays, and none is lost in silence."""

import warnings

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.runtime import _attributes


class Cell(bo.Node):
    def __init__(self):
        self.v = jnp.zeros(2)
        self.log = []
        self.last = None


@pytest.fixture(autouse=True)
def _warn_anew(monkeypatch):
    monkeypatch.setattr(_attributes, "_warned", set())


def _accumulate(cell, x):
    cell.v = cell.v + x
    return cell.v.sum()


TRANSFORMS = {
    "jit": lambda f: bo.jit(f),
    "for_loop": lambda f: lambda x: bo.for_loop(f, x[None])[0],
    "jit of for_loop": lambda f: bo.jit(lambda x: bo.for_loop(f, x[None])[0]),
    "cond": lambda f: lambda x: bo.cond(x > 0, f, lambda x: 0.0, x),
    "grad": lambda f: bo.grad(f, argnums=0),
    "vmap": lambda f: lambda x: bo.vmap(f)(x[None])[0],
    "remat": lambda f: bo.remat(f),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_state_in_a_plain_attribute_is_an_error(transform):
    cell = Cell()
    step = bo.jit(transform(lambda x: _accumulate(cell, x)))

    with pytest.raises(bo.errors.TraceContextError, match=r"Cell\.v"):
        step(jnp.asarray(1.0))
    assert not isinstance(cell.v, jax.core.Tracer) and cell.v.tolist() == [0.0, 0.0]


def test_an_intermediate_result_is_set_back_with_one_warning():
    cell = Cell()

    @bo.jit
    def step(x):
        cell.last = x * 2
        return cell.last + 1

    with pytest.warns(UserWarning, match=r"Cell\.last"):
        assert float(step(1.0)) == 3.0
    assert cell.last is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(2.0)


def test_a_list_is_emptied_of_what_ended():
    cell = Cell()
    cell.log.append("before")

    @bo.jit
    def step(x):
        cell.log.append(x)
        return x

    with pytest.warns(UserWarning, match=r"Cell\.log"):
        step(1.0)
    assert cell.log == ["before"]


def test_a_variable_created_in_a_loop_is_an_error_and_leaves_the_attribute():
    cell = Cell()

    def body(x):
        if cell.last is None:
            cell.last = bo.Variable(jnp.zeros(()))
        cell.last.value += x
        return cell.last.value

    with pytest.raises(bo.errors.TraceContextError, match=r"Cell\.last"):
        bo.for_loop(body, jnp.ones(3))
    assert cell.last is None


def test_what_a_trace_creates_for_itself_may_hold_its_arrays():
    @bo.jit
    def step(x):
        cell = Cell()
        cell.v = x * 2
        cell.last = bo.Variable(x)
        cell.last.value += 1
        return cell.v + cell.last.value

    assert float(step(1.0)) == 4.0


def test_a_python_counter_stays_where_tracing_left_it_and_is_told():
    cell = Cell()
    cell.last = 0

    @bo.jit
    def step(x):
        cell.last += 1
        return x

    with pytest.warns(bo.errors.TracingWarning, match=r"Cell\.last"):
        step(1.0)
    count = cell.last
    step(2.0)

    assert (cell.last, step.compiles) == (count, 1)


class Made(bo.Node):
    def __init__(self, x):
        self.w = bo.Variable(x * jnp.ones(2))
        self.plain, self.inside = x * 2.0, [x * 3.0]


RETURNED = {
    "jit": lambda make: bo.jit(make)(1.0),
    "vmap": lambda make: bo.vmap(make)(jnp.ones(3)),
    "for_loop": lambda make: bo.for_loop(make, jnp.ones(3)),
    "cond": lambda make: bo.cond(True, make, make, jnp.array(1.0)),
    "remat": lambda make: bo.remat(make)(1.0),
}


@pytest.mark.parametrize("transform", RETURNED)
def test_a_returned_node_with_plain_arrays_of_the_trace_is_an_error(transform):
    match = r"(?s)Made\.plain.*Made\.inside\.0"
    with pytest.raises(bo.errors.TraceContextError, match=match):
        RETURNED[transform](Made)


def test_one_with_variables_and_plain_constants_is_not():
    def make(x):
        node = bo.Node()
        node.w, node.mask = bo.Variable(x * 2.0), jax.numpy.asarray([1.0, 2.0])
        node.rate = 3.0
        return node

    node = bo.vmap(make)(jnp.arange(2.0))

    assert node.w.value.tolist() == [0.0, 2.0] and node.rate == 3.0
