# SPDX-License-Identifier: Apache-2.0
"""The trace guard: a write is threaded to its Variable or refused by name."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import TraceContextError

# Each transform runs a function of nothing, and says how often.
OURS = {
    "bo.jit": (1, lambda f: bo.jit(f)),
    "bo.grad": (1, lambda f: bo.grad(lambda x: x + f(), None, 0)),
    "bo.vector_grad": (1, lambda f: bo.vector_grad(lambda x: x + f(), None, 0)),
    "bo.jacrev": (1, lambda f: bo.jacrev(lambda x: x + f(), None, 0)),
    "bo.jacfwd": (1, lambda f: bo.jacfwd(lambda x: x + f(), None, 0)),
    "bo.hessian": (1, lambda f: bo.hessian(lambda x: x + f(), None, 0)),
    "bo.vjp": (1, lambda f: lambda x: bo.vjp(lambda y: y + f(), x)[0]),
    "bo.jvp": (1, lambda f: lambda x: bo.jvp(lambda y: y + f(), (x,), (x,))[0]),
    "bo.vmap": (1, lambda f: bo.vmap(lambda x: x * f(), None, axis_size=2)),
    "bo.scan": (3, lambda f: lambda x: bo.scan(lambda c, _: (c, f()), x, length=3)),
    "bo.for_loop": (3, lambda f: lambda x: bo.for_loop(f, length=3)),
    "bo.while_loop": (
        3,
        lambda f: lambda x: bo.while_loop(lambda i: i + f() ** 0, lambda i: i < 3, 0.0),
    ),
    "bo.cond": (1, lambda f: lambda x: bo.cond(x == x, f, 0.0)),
    "bo.switch": (1, lambda f: lambda x: bo.switch(1, [0.0, f])),
    "bo.ifelse": (1, lambda f: lambda x: bo.ifelse([False, True], [0.0, f, 1.0])),
    "bo.remat": (1, lambda f: bo.remat(f)),
}
FOREIGN = {
    "jax.jit": lambda f: jax.jit(f),
    "jax.grad": lambda f: jax.grad(lambda x: x + f()),
    "jax.vmap": lambda f: jax.vmap(lambda x: x * f(), axis_size=2, in_axes=None),
    "jax.lax.scan": lambda f: (
        lambda x: jax.lax.scan(lambda c, _: (c, f()), x, length=3)
    ),
    "jax.lax.cond": lambda f: lambda x: jax.lax.cond(x == x, f, lambda: 0.0),
    "jax.lax.while_loop": lambda f: (
        lambda x: jax.lax.while_loop(lambda i: i < 3, lambda i: i + f() ** 0, 0.0)
    ),
    "jax.checkpoint": lambda f: jax.checkpoint(f),
    "jax.jvp": lambda f: lambda x: jax.jvp(lambda y: y + f(), (x,), (x,)),
    "jax.linearize": lambda f: lambda x: jax.linearize(lambda y: y + f(), x),
    "jax.eval_shape": lambda f: lambda x: jax.eval_shape(f),
}
X = 1.0

# An eager function of plain JAX whose Variable is then written warns, as it should.
pytestmark = pytest.mark.filterwarnings("ignore:(.|\\n)*was traced by plain JAX")


def closed(transformed):
    """Return a function of nothing that returns a scalar."""

    def call():
        try:
            out = transformed(X)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            out = transformed()
        leaves = jax.tree.leaves(out)
        return (
            sum(jnp.sum(leaf) for leaf in leaves if isinstance(leaf, jax.Array)) * 0
            + 1.0
        )

    return call


def nested(names, function):
    for name in reversed(names):
        make = OURS[name][1] if name in OURS else FOREIGN[name]
        function = closed(make(function))
    return function


def _name(names):
    return " > ".join(names)


def writer(variable):
    def write(*_):
        variable.value = variable.value + 1.0
        return variable.value.sum()

    return write


PAIRS = list(itertools.product(OURS, repeat=2))
TRIPLES = [
    ("bo.jit", "bo.grad", "bo.for_loop"),
    ("bo.jit", "bo.vmap", "bo.grad"),
    ("bo.grad", "bo.for_loop", "bo.cond"),
    ("bo.for_loop", "bo.grad", "bo.jit"),
    ("bo.for_loop", "bo.while_loop", "bo.for_loop"),
    ("bo.hessian", "bo.scan", "bo.remat"),
    ("bo.vmap", "bo.scan", "bo.cond"),
    ("bo.while_loop", "bo.jit", "bo.vjp"),
]


OUTER = {"bo.jit", "bo.for_loop"}
INNER = {"bo.jit", "bo.grad", "bo.vmap", "bo.while_loop", "bo.cond", "bo.remat"}


def _quick(names):
    quick = len(names) < 2 or (names[0] in OUTER and names[-1] in INNER)
    return pytest.param(names, marks=[] if quick else pytest.mark.long)


@pytest.mark.parametrize("names", [*map(_quick, PAIRS), *TRIPLES], ids=_name)
def test_every_nesting_of_ours_counts_right(names):
    v = bo.Variable(jnp.zeros(2))
    times = 1
    for name in names:
        times *= OURS[name][0]

    nested(names, writer(v))()

    assert v.value.tolist() == [times, times]


MIXED = [
    *((name,) for name in FOREIGN),
    *itertools.product(FOREIGN, ["bo.jit", "bo.grad", "bo.for_loop", "bo.cond"]),
    *itertools.product(["bo.jit", "bo.grad", "bo.for_loop", "bo.vmap"], FOREIGN),
]
MIXED = [
    pytest.param(
        names, marks=pytest.mark.long if {"bo.grad", "bo.cond"} & set(names) else []
    )
    for names in MIXED
]


@pytest.mark.parametrize("names", MIXED, ids=_name)
def test_a_write_in_a_foreign_trace_is_refused_by_name(names):
    v = bo.Variable(jnp.zeros(2), name="mine")

    with pytest.raises(TraceContextError, match="'mine' is written inside a JAX trace"):
        nested(names, writer(v))()

    assert v.value.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("names", MIXED, ids=_name)
def test_a_read_in_any_nesting_is_right(names):
    v = bo.Variable([1.0, 2.0])
    seen = bo.Variable(jnp.array(0.0))

    nested(names, lambda *_: v.value.sum())()
    seen.value = v.value.sum()

    assert float(seen) == 3.0


KEEPING = {
    "jax.jit": lambda f: jax.jit(lambda x: x * f()),
    "jax.checkpoint": lambda f: jax.checkpoint(lambda x: x * f()),
    "jax.lax.scan": lambda f: (
        lambda x, body=lambda c, _: (c * f(), None): jax.lax.scan(
            body, x, None, length=1
        )[0]
    ),
    "jax.lax.cond": lambda f: (
        lambda x, body=lambda x: x * f(): jax.lax.cond(x > 0, body, body, x)
    ),
    "jax.lax.fori_loop": lambda f: (
        lambda x, body=lambda i, x: x * f(): jax.lax.fori_loop(0, 1, body, x)
    ),
}


@pytest.mark.parametrize("before", [False, True], ids=["first", "after an eager run"])
@pytest.mark.parametrize("name", KEEPING)
def test_what_jax_kept_of_a_function_hides_no_variable_from_bo_jit(name, before):
    v = bo.Variable(2.0)
    inner = KEEPING[name](lambda: v.value)
    if before:
        inner(3.0)
        v.value = 5.0
    one, other = bo.jit(lambda: inner(3.0)), bo.jit(lambda x: inner(3.0) + x)

    assert [float(one()), float(other(1.0))] == ([15.0, 16.0] if before else [6.0, 7.0])
    v.value = 7.0
    assert [float(one()), float(other(jnp.ones(1))[0])] == [21.0, 22.0]


@pytest.mark.parametrize("name", KEEPING)
def test_a_gradient_inside_what_jax_keeps_is_the_real_one(name):
    x = bo.Variable(3.0)
    derivative = bo.grad(lambda x: x**2)
    inner = KEEPING[name](lambda: derivative(x.value))

    assert float(bo.jit(lambda: inner(1.0))()) == 6.0


BORN = {
    "bo.jit": bo.jit,
    "jax.jit": jax.jit,
    "bo.grad": lambda f: lambda x: bo.grad(f)(x),
    "jax.grad": lambda f: lambda x: jax.grad(f)(x),
    "bo.for_loop": lambda f: lambda x: bo.for_loop(f, jnp.ones(2)),
    "bo.vmap": lambda f: lambda x: bo.vmap(f)(jnp.ones(2)),
    "jax.vmap": lambda f: lambda x: jax.vmap(f)(jnp.ones(2)),
    "jax.vmap in bo.jit": lambda f: bo.jit(lambda x: jax.vmap(f)(jnp.ones(2))),
}


@pytest.mark.parametrize("name", BORN)
def test_a_variable_born_in_a_trace_says_so_afterwards(name):
    kept = []

    def function(x):
        kept.append(bo.Variable(x * jnp.ones(()), name="born"))
        kept[-1].value += 1
        return kept[-1].value

    BORN[name](function)(2.0)

    with pytest.raises(TraceContextError, match="'born' was created inside"):
        kept[-1].value


def test_a_variable_born_in_a_foreign_trace_says_so_inside_ours():
    kept = []

    def lane(x):
        kept.append(bo.Variable(x, name="born"))
        return kept[-1].value

    @bo.jit
    def outer():
        jax.vmap(lane)(jnp.ones(2))
        return kept[-1].value

    with pytest.raises(TraceContextError, match="'born' was created inside"):
        outer()


def test_variables_made_anew_in_each_trace_may_be_written_in_loops():
    total = bo.Variable(jnp.array(0.0))

    @bo.jit
    def step(x):
        local = bo.Variable(jnp.array(0.0))

        def body(y):
            local.value += y

        bo.for_loop(body, x)
        total.value += local.value

    for x in (jnp.ones(2), jnp.ones(3), jnp.ones(2)):
        step(x)

    assert float(total) == 7.0
