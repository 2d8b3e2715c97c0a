# SPDX-License-Identifier: Apache-2.0
"""scan, for_loop and while_loop: state is carried, options do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import TraceContextError, VariableError

XS = jnp.arange(1.0, 11.0)


def leaky(x):
    """Return the states of v ← 0.9 v + sin(x v) + x from v = 0.5, by hand."""

    def body(v, x):
        v = 0.9 * v + jnp.sin(x * v) + x
        return v, v * 2

    return lambda v0: jax.lax.scan(body, v0, x)


@pytest.fixture
def cell():
    """Return the same as an object."""

    class Cell(bo.Node):
        def __init__(self):
            self.v = bo.Variable(jnp.array(0.5))

        def __call__(self, x):
            self.v.value = 0.9 * self.v + jnp.sin(x * self.v) + x
            return self.v * 2

    return Cell()


OPTIONS = [
    {},
    {"unroll": 3},
    {"unroll": True},
    {"remat": True},
    {"checkpoint_every": 1},
    {"checkpoint_every": 4},
    {"checkpoint_every": True},
    {"checkpoint_every": 100},
    {"progress_bar": True},
    {"progress_bar": True, "checkpoint_every": 2},
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_gives_the_loop_of_plain_jax(cell, options, reverse, terminal):
    order = XS[::-1] if reverse else XS
    v, ys = leaky(order)(jnp.array(0.5))

    ours = bo.for_loop(cell, XS, reverse=reverse, **options)

    np.testing.assert_allclose(ours, ys[::-1] if reverse else ys, rtol=1e-3)
    np.testing.assert_allclose(cell.v.value, v, rtol=1e-3)
    jax.effects_barrier()
    assert ("10/10" in terminal()) == ("progress_bar" in options)


@pytest.mark.parametrize("options", OPTIONS[:7], ids=str)
def test_gradients_go_through_every_option(cell, options):
    w = bo.TrainVar(jnp.array(0.5))
    expected = jax.grad(lambda v: leaky(XS)(v)[1].sum())(jnp.array(0.5))

    def loss():
        cell.v.value = w.value
        return bo.for_loop(cell, XS, **options).sum()

    np.testing.assert_allclose(bo.jit(bo.grad(loss, w))(), expected, rtol=1e-4)


def test_checkpoints_need_memory_of_the_root_of_the_length():
    w = bo.TrainVar(jnp.ones(64))
    v = bo.Variable(jnp.zeros(64))

    def peak(**options):
        def body():
            v.value = jnp.tanh(w * v + 1)

        def loss():
            bo.for_loop(body, length=1024, **options)
            return v.value.sum()

        stats = bo.jit(bo.grad(loss, w)).lower().compile().memory_analysis()
        return stats.temp_size_in_bytes

    assert peak(checkpoint_every=True) * 6 < peak()


def test_a_python_loop_is_the_same(cell):
    twin = type(cell)()

    ours = bo.for_loop(cell, XS, reverse=True, jit=False)

    np.testing.assert_allclose(ours, bo.for_loop(twin, XS, reverse=True), rtol=1e-3)
    np.testing.assert_allclose(cell.v.value, twin.v.value, rtol=1e-3)


def test_a_python_loop_shows_values():
    seen = []

    bo.for_loop(lambda x: seen.append(float(x)), XS[:3], jit=False)
    with jax.disable_jit():
        bo.for_loop(lambda: seen.append(4.0), length=1)

    assert seen == [1.0, 2.0, 3.0, 4.0]


def test_a_loop_that_is_told_nothing_of_jit_is_compiled():
    runs = []

    bo.for_loop(lambda x: runs.append(x), jnp.arange(50), jit=None)

    assert len(runs) < 50


def test_scan_threads_a_carry_beside_the_variables(cell):
    def body(carry, x):
        cell(x["a"])
        return carry + x["b"], (carry, cell.v.value)

    carry, (carries, vs) = bo.scan(body, 0.0, {"a": XS, "b": XS * 2})

    assert float(carry) == 110.0
    assert carries.shape == vs.shape == (10,)
    np.testing.assert_allclose(vs[-1], cell.v.value)


def test_operands_may_be_many_none_or_variables(cell):
    table = bo.Variable(XS)
    count = bo.Variable(jnp.array(0))

    def body():
        count.value += 1

    assert bo.for_loop(lambda x, y: x + y[0], (table, [XS])).tolist() == [
        2.0 * x for x in range(1, 11)
    ]
    assert bo.for_loop(body, length=4) is None
    assert int(count) == 4


@pytest.mark.parametrize("jit", [True, False])
def test_zero_iterations_change_nothing(cell, jit):
    ys = bo.for_loop(cell, jnp.zeros(0), jit=jit)

    assert ys.shape == (0,)
    assert float(cell.v) == 0.5


def test_a_loop_without_length_says_so():
    with pytest.raises(ValueError, match="length"):
        bo.for_loop(lambda: 1.0, progress_bar=True)


@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 3}, {"jit": False}])
def test_operands_of_unequal_lengths_are_refused(options):
    six, nine = jnp.arange(6.0), jnp.arange(9.0)

    for operands in ((six, nine), (nine, six), (six, 1.0)):
        with pytest.raises(ValueError, match="not all of one length"):
            bo.for_loop(lambda a, b: a + b, operands, **options)
    with pytest.raises(ValueError, match="length=3"):
        bo.for_loop(lambda a: a, six, length=3, **options)


@pytest.mark.parametrize("operands", [range(3), ["a"], (jnp.ones(3), range(3))])
@pytest.mark.parametrize("jit", [True, False])
def test_operands_that_are_no_arrays_are_named(operands, jit):
    kind = "str" if isinstance(operands, list) else "range"
    with pytest.raises(TypeError, match=rf"a {kind}\n(.|\n)*jnp\.arange"):
        bo.for_loop(lambda x: x, operands, jit=jit)
    with pytest.raises(TypeError, match=f"a {kind}\n"):
        bo.scan(lambda c, x: (c, x), 0.0, operands)


def test_a_state_that_grows_in_a_loop_is_named():
    v = bo.Variable(jnp.ones((1, 2)), batch_axis=0, name="grows")

    def body(_):
        v.value = jnp.concatenate([v.value, v.value])

    with pytest.raises(VariableError, match=r"'grows': \(1, 2\) before, \(2, 2\)"):
        bo.for_loop(body, XS)
    assert v.value.shape == (1, 2)


def test_state_written_in_one_branch_of_a_loop_is_carried():
    odd, even = bo.Variable(jnp.array(0.0)), bo.Variable(jnp.array(0.0))

    def body(x):
        def on_odd():
            odd.value += x

        def on_even():
            even.value += x

        bo.cond(x % 2, on_odd, on_even)

    bo.jit(lambda: bo.for_loop(body, XS))()

    assert (float(odd), float(even)) == (25.0, 30.0)


def test_random_numbers_differ_between_iterations():
    rng, twin = bo.RandomState(3), bo.RandomState(3)

    ours = bo.for_loop(lambda _: rng.uniform(), XS)

    assert len(set(ours.tolist())) == 10
    assert ours.tolist() == [float(twin.uniform()) for _ in range(10)]


def test_a_while_loop_carries_operands_and_state():
    steps = bo.Variable(jnp.array(0))
    limit = bo.Variable(jnp.array(20.0))

    def body(x, y):
        steps.value += 1
        return x + y, y + 1

    x, y = bo.while_loop(body, lambda x, y: x < limit.value, (0.0, jnp.array(1.0)))

    assert (float(x), float(y), int(steps)) == (21.0, 7.0, 6)


def test_a_condition_sees_what_the_body_wrote():
    v = bo.Variable(jnp.array(1.0))

    def body():
        v.value *= 2

    assert bo.while_loop(body, lambda: v < 100) == ()
    assert float(v) == 128.0


@pytest.mark.parametrize("disable", [False, True])
def test_a_condition_that_writes_is_refused(disable):
    v = bo.Variable(jnp.array(0.0), name="counter")

    def cond(x):
        v.value += 1
        return x < 3

    with jax.disable_jit(disable), pytest.raises(TraceContextError, match="'counter'"):
        bo.while_loop(lambda x: x + 1, cond, 0)
    assert float(v) == 0.0


def test_a_while_loop_runs_as_python_without_jit():
    seen = []
    v = bo.Variable(jnp.array(0.0))

    def body(x):
        v.value += x
        seen.append(int(x))
        return x + 1

    with jax.disable_jit():
        out = bo.while_loop(body, lambda x: v < 4, jnp.array(1))

    assert (seen, int(out), float(v)) == ([1, 2, 3], 4, 6.0)


def test_depth_four_runs_its_body_a_few_times(counted):
    w, v = bo.TrainVar(jnp.array(1.0)), bo.Variable(jnp.array(0.0))

    @counted
    def innermost():
        v.value += w.value

    def loop(x):
        bo.cond(x > 0, innermost, None)

    def loss():
        bo.for_loop(loop, XS)
        return v.value

    step = bo.jit(bo.grad(loss, w))
    gradient = step()

    assert float(gradient) == 10.0
    assert innermost.traces <= 6


def test_six_loops_deep_the_runs_grow_with_the_depth(counted):
    v = bo.Variable(jnp.array(0.0))

    @counted
    def innermost():
        v.value += 1

    function = innermost
    for _ in range(6):
        inner = function
        function = lambda inner=inner: bo.for_loop(inner, length=2)  # noqa: E731
    bo.jit(function)()

    assert float(v) == 64.0
    assert innermost.traces <= 16


@pytest.mark.parametrize("way", ["eager", "jit", "python"])
@pytest.mark.parametrize(
    "out, said",
    [(lambda c: c, "Array"), (lambda c: (c, c, c), "3 values"), (lambda c: None, "N")],
)
def test_the_body_of_a_scan_returns_a_pair(out, said, way):
    def call():
        return bo.scan(lambda c, _: out(c), jnp.array(0.0), length=2)

    with (
        jax.disable_jit(way == "python"),
        pytest.raises(TypeError, match=r"The body of a scan returned .*\n?.*carry, y"),
    ):
        (bo.jit(call) if way == "jit" else call)()
    assert said
