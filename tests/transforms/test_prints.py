# SPDX-License-Identifier: Apache-2.0
"""A function prints once for each trace that is kept, however often it is traced."""

import builtins
import threading

import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.transforms._prints import HeldPrints


def _add(v, x):
    print("add", x.shape)
    v.value = v + x
    return v.value.sum()


def _loop(v, x):
    return bo.for_loop(lambda row: _add(v, row), x)


def _scan(v, x):
    return bo.scan(lambda c, row: (c + _add(v, row), row), 0.0, x)


def _while(v, x):
    return bo.while_loop(lambda i: (_add(v, x), i + 1)[1], lambda i: i < 2, 0)


def _cond(v, x):
    return bo.cond(v.value.sum() > 9, lambda: _add(v, x), lambda: jnp.zeros(()))


def _grad(v, x):
    return bo.grad(lambda: _loop(v, x).sum(), v)()


def _nested(v, x):
    return bo.jit(lambda: _cond(v, x))()


def _vmap(v, x):
    return bo.vmap(lambda row: _add(v, row), discard=True)(x)


BODIES = [_add, _loop, _scan, _while, _cond, _grad, _nested, _vmap]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["jit", "eager", "lower", "make_jaxpr"])
def test_a_first_call_prints_once(body, kind, capsys):
    v = bo.Variable(jnp.zeros((2, 3)))
    v = v if body in (_add, _while, _cond, _nested) else bo.Variable(jnp.zeros(3))
    ways = {
        "jit": lambda: bo.jit(lambda x: body(v, x)),
        "lower": lambda: bo.jit(lambda x: body(v, x)).lower,
        "make_jaxpr": lambda: bo.make_jaxpr(lambda x: body(v, x)),
        "eager": lambda: lambda x: body(v, x),
    }

    ways[kind]()(jnp.ones((2, 3)))

    assert capsys.readouterr().out.count("add") == 1


def test_each_trace_prints_and_other_calls_do_not(capsys):
    v = bo.Variable(jnp.zeros(3))
    step = bo.jit(lambda x: _add(v, x))

    for x in (jnp.ones(3), jnp.ones(3), jnp.ones((1,)), jnp.ones(3)):
        step(x)

    assert capsys.readouterr().out == "add (3,)\nadd (1,)\n"


def test_a_new_shape_that_meets_another_variable_prints_once(capsys):
    a, b = bo.Variable(0.0), bo.Variable(0.0)

    @bo.jit
    def step(x):
        print("shape", x.shape)
        for v in (a, b)[: len(x)]:
            v.value = v.value + x.sum()

    for n in (1, 2, 2):
        step(jnp.ones(n))

    assert capsys.readouterr().out.split("\n")[:-1] == ["shape (1,)", "shape (2,)"]
    assert (a.value, b.value) == (5, 4)


def test_what_was_printed_before_an_error_is_there(capsys):
    v = bo.Variable(0.0)

    def step():
        print("read", v.value.shape, end="!")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        bo.jit(step)()

    assert capsys.readouterr().out == "read ()!"


def test_print_is_as_it_was_and_other_threads_print_at_once(capsys):
    before, seen, v = builtins.print, [], bo.Variable(0.0)

    def step():
        print("here", v.value.shape)
        thread = threading.Thread(target=print, args=("there",))
        thread.start()
        thread.join()
        seen.append(builtins.print)

    bo.jit(step)()

    assert builtins.print is before
    assert capsys.readouterr().out.split("\n")[0] == "there"


def test_a_print_to_a_file_is_held_for_that_file(tmp_path):
    v = bo.Variable(0.0)
    with open(tmp_path / "log", "w") as file:
        bo.jit(lambda: print("read", v.value.shape, file=file))()

    assert (tmp_path / "log").read_text() == "read ()\n"


def test_a_block_that_a_signal_left_open_holds_no_later_print(capsys):
    left = HeldPrints()
    left.__enter__()

    print("after")
    bo.jit(lambda: print("traced"))()

    assert capsys.readouterr().out == "after\ntraced\n"
    left.__exit__(None, None, None)
