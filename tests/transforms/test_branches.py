# SPDX-License-Identifier: Apache-2.0
"""cond, switch and ifelse: what one branch writes, the others keep."""

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo


@pytest.fixture
def pair():
    return bo.Variable(jnp.array(1.0)), bo.Variable(jnp.array(10.0))


@pytest.fixture(params=["eager", "jit", "disabled"])
def run(request):
    """Return a way to run a function of one argument."""
    if request.param == "jit":
        return lambda f, x: bo.jit(f)(x)
    if request.param == "eager":
        return lambda f, x: f(x)

    def disabled(f, x):
        with jax.disable_jit():
            return f(x)

    return disabled


def test_each_branch_writes_its_own_variable(pair, run):
    a, b = pair

    def left(x):
        a.value += x
        return a.value

    def right(x):
        b.value *= x
        return b.value

    def f(x):
        return bo.cond(x > 0, left, right, x)

    outs = [float(run(f, jnp.array(x))) for x in (2.0, -3.0, 4.0)]

    assert outs == [3.0, -30.0, 7.0]
    assert (float(a), float(b)) == (7.0, -30.0)


def test_constants_and_several_operands(pair, run):
    a, _ = pair

    assert float(run(lambda x: bo.cond(x, 5.0, -5.0), 0)) == -5.0
    assert float(run(lambda x: bo.cond(a, lambda p, q: p - q, 0.0, (x, 1.0)), 3.0)) == 2


@pytest.mark.parametrize("index, expected", [(-7, 0), (0, 0), (1, 1), (2, 2), (9, 2)])
def test_switch_clamps_its_index(pair, run, index, expected):
    a, b = pair

    def one():
        a.value += 100.0
        return jnp.array(1.0)

    out = run(lambda i: bo.switch(i, [0.0, one, lambda: b.value * 0 + 2]), index)

    assert float(out) == expected
    assert float(a) == (101.0 if expected == 1 else 1.0)


@pytest.mark.parametrize("x, expected", [(11, 5), (6, 4), (3, 3), (1, 2), (-1, 1)])
def test_ifelse_is_an_elif_chain(run, x, expected):
    v = bo.Variable(jnp.array(0))

    def note(n):
        def branch():
            v.value += n
            return n

        return branch

    def f(a):
        conditions = [a > 10, a > 5, a > 2, a > 0]
        return bo.ifelse(conditions, [note(n) for n in (5, 4, 3, 2, 1)])

    assert int(run(f, x)) == expected
    assert int(v) == expected


def test_ifelse_takes_one_condition_and_operands(run):
    assert float(run(lambda x: bo.ifelse(x > 0, [jnp.sin, jnp.cos], (x,)), 0.0)) == 1.0


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="2 branches for 2 conditions"):
        bo.ifelse([True, False], [1, 2])
    with pytest.raises(ValueError, match="at least one branch"):
        bo.switch(0, [])


def test_gradients_flow_through_the_branch_taken(pair):
    a, b = pair

    def loss(x):
        return bo.cond(x > 0, lambda: a**2, lambda: b**3)

    grads = bo.jit(bo.grad(loss, [a, b]))

    assert [float(g) for g in grads(1.0)] == [2.0, 0.0]
    assert [float(g) for g in grads(-1.0)] == [0.0, 300.0]


def test_branches_of_unequal_results_are_jaxs_error(pair):
    a, _ = pair

    def write():
        a.value += 1
        return jnp.ones(3)

    with pytest.raises(TypeError):
        bo.cond(True, write, 0.0)
    assert float(a) == 1.0


def test_a_mapped_predicate_writes_a_mapped_variable():
    v = bo.Variable([1.0, 2.0, 3.0])

    def lane(x):
        def write():
            v.value = v.value + 10

        bo.cond(x > 0, write, None)

    bo.vmap(lane, axes={v: 0})(jnp.array([1.0, -1.0, 1.0]))

    assert v.value.tolist() == [11.0, 2.0, 13.0]


@pytest.mark.parametrize("through", ["vmap", "remat"])
@pytest.mark.parametrize("kind", ["cond", "ifelse", "switch", "while"])
def test_traced_conditions_are_legal_without_jit(kind, through):
    count = bo.Variable(jnp.zeros(3) if through == "vmap" else jnp.array(0.0))

    def double(x):
        count.value += 1
        return x * 2

    function = {
        "cond": lambda x: bo.cond(x > 2, double, lambda x: x, x),
        "ifelse": lambda x: bo.ifelse([x > 2], [double, lambda x: x], x),
        "switch": lambda x: bo.switch((x > 2) * 1, [lambda x: x, double], x),
        "while": lambda x: bo.while_loop(double, lambda x: (x > 2) & (x < 6), x),
    }[kind]
    xs = jnp.array([1.0, 2.0, 3.0])

    with jax.disable_jit():
        if through == "vmap":
            ys = bo.vmap(function, axes={count: 0})(xs)
        else:
            ys = [bo.remat(function)(x) for x in xs]

    assert [float(y) for y in ys] == [1.0, 2.0, 6.0]
    assert float(count.value.sum()) == 1.0


@pytest.mark.parametrize("start", [0, 0.0, jnp.zeros(2)])
def test_a_while_loop_with_its_functions_swapped_is_refused(run, start):
    def swapped(x):
        return bo.while_loop(lambda c: jnp.max(c) < 5, lambda c: c + 1, start * x)

    with pytest.raises(TypeError, match=r"order is while_loop\(body_fun, cond_fun"):
        run(swapped, 1)


def test_a_while_loop_promotes_a_python_number_as_jax_does(run):
    count = bo.Variable(jnp.array(0))

    def halves(x):
        count.value += 1
        return x + 0.5

    assert float(run(lambda x: bo.while_loop(halves, lambda x: x < 5, 0), 0)) == 5.0
    assert int(count) == 10


@pytest.mark.parametrize("way", ["eager", "jit", "python"])
@pytest.mark.parametrize(
    "choice", [1j, "x", None, [True], jnp.ones(2), jnp.array(1j)], ids=str
)
def test_what_is_no_scalar_chooses_no_branch(choice, way):
    calls = {
        "cond": lambda: bo.cond(choice, 1.0, lambda: 2.0),
        "switch": lambda: bo.switch(choice, [1.0, lambda: 2.0]),
        "ifelse": lambda: bo.ifelse([False, choice], [1.0, lambda: 2.0, 3.0]),
    }
    for name, call in calls.items():
        with (
            jax.disable_jit(way == "python"),
            pytest.raises(TypeError, match="not a scalar"),
        ):
            (bo.jit(call) if way == "jit" else call)()
        assert name


@pytest.mark.parametrize("index", [0.5, True, jnp.array(1.0)], ids=str)
def test_an_index_is_an_integer(index):
    with pytest.raises(TypeError, match=r"index is .*, not a scalar integer"):
        bo.switch(index, [lambda: 1.0, lambda: 2.0])
