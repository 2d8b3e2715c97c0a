# SPDX-License-Identifier: Apache-2.0
"""bo.jit: what it threads, when it traces anew, and what its arguments may be."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.runtime import Revision, depend_on


class Counter(bo.Node):
    def __init__(self, start=0.0):
        self.n = bo.Variable(jnp.array(start))
        self.traces = 0

    @bo.jit
    def add(self, by):
        self.traces += 1
        self.n.value += by
        return self.n.value * 10

    def __call__(self, by):
        self.n.value += by


def test_reads_and_writes_need_no_declaration(counted):
    v, w = bo.Variable([1.0, 2.0]), bo.Variable([10.0, 10.0])

    @counted
    def step(x):
        v.value = v.value * w.value + x
        return v.value.sum()

    jitted = bo.jit(step)
    results = [float(jitted(1.0)) for _ in range(3)]

    assert results == [32.0, 322.0, 3222.0]
    assert v.value.tolist() == [1111.0, 2111.0]
    assert step.traces == 2


def test_a_second_call_with_other_shapes_traces_once_more(counted):
    v = bo.Variable(jnp.array(0.0))

    @counted
    def step(x):
        v.value += x.sum()

    jitted = bo.jit(step)
    jitted(jnp.ones(2))
    jitted(jnp.ones(3))
    jitted(jnp.ones(3))

    assert float(v) == 8.0
    assert step.traces == 3


def test_what_several_compiled_functions_call_is_traced_for_all_of_them(counted):
    v = bo.Variable(jnp.array(0.0))

    @counted
    def step(x):
        v.value += x

    shared = bo.jit(step)
    callers = [bo.jit(lambda x, i=i: shared(x + i)) for i in range(3)]
    for caller in callers:
        caller(1.0)

    assert float(v) == 6.0
    assert step.traces == 2


def test_another_branch_meets_new_variables():
    a, b = bo.Variable(jnp.array(0.0)), bo.Variable(jnp.array(0.0))

    def step(x):
        if x.ndim == 0:
            a.value += x
        else:
            b.value += x.sum() + a.value

    jitted = bo.jit(step)
    for x in (jnp.array(1.0), jnp.ones(2), jnp.array(2.0), jnp.ones(2)):
        jitted(x)

    assert (float(a), float(b)) == (3.0, 2.0 + 1.0 + 2.0 + 3.0)


def test_the_batch_axis_may_change():
    x = bo.Variable(jnp.ones((2, 3)), batch_axis=0)

    @bo.jit
    def double():
        x.value = x.value * 2
        return x.value.sum()

    first = float(double())
    x.value = jnp.ones((5, 3))
    second = float(double())

    assert (first, second) == (12.0, 30.0)
    assert x.value.shape == (5, 3)


def test_a_variable_is_returned_as_its_value():
    v = bo.Variable([1.0])

    out = bo.jit(lambda: {"v": v, "rest": (v, None)})()

    assert type(out["v"]) is type(v.value)
    assert out["rest"][0].tolist() == [1.0]


def test_a_node_made_inside_is_returned_alive():
    make = bo.jit(lambda start: Counter(start))

    first, second = make(1.0), make(2.0)
    second.n.value += 1

    assert (float(first.n), float(second.n)) == (1.0, 3.0)


def test_a_namedtuple_comes_back_as_one():
    v = bo.Variable(jnp.array(1.0))

    def step(x):
        v.value += x
        return jnp.linalg.slogdet(jnp.eye(2) * x)

    out = bo.jit(step)(3.0)

    assert type(out) is type(jnp.linalg.slogdet(jnp.eye(2)))
    assert float(v) == 4.0


def test_methods_compile_once_for_each_instance():
    one, two = Counter(), Counter(100.0)

    results = [float(c.add(1.0)) for c in (one, two, one, two)]

    assert results == [10.0, 1010.0, 20.0, 1020.0]
    assert (one.traces, two.traces) == (1, 1)


def test_a_bound_method_keeps_its_instance_alive():
    add = Counter().add
    gc.collect()

    assert float(add(1.0)) == 10.0


def test_a_dropped_instance_is_freed():
    counter = Counter()
    counter.add(1.0)
    ref = weakref.ref(counter)

    del counter
    gc.collect()

    assert ref() is None


def test_bound_methods_and_callable_nodes_are_functions():
    node = Counter()

    bo.jit(node)(1.0)
    bo.jit(node.__call__)(1.0)

    assert float(node.n) == 2.0


def test_disable_jit_runs_python():
    v = bo.Variable(jnp.array(0.0))
    seen = []

    @bo.jit
    def step(x):
        v.value += x
        seen.append(float(v))

    with jax.disable_jit():
        step(1.0)
        step(x=2.0)

    assert seen == [1.0, 3.0]


def test_a_revision_makes_compiled_code_stale():
    revision, settings = Revision(), {"scale": 2.0}
    v = bo.Variable(jnp.array(1.0))

    @bo.jit
    def inner():
        depend_on(revision)
        v.value *= settings["scale"]

    outer = bo.jit(lambda: inner())
    outer()
    settings["scale"] = 5.0
    outer()
    revision.changed()
    outer()

    assert float(v) == 20.0


def test_a_function_compiled_inside_another_works_on_its_own():
    v = bo.Variable(jnp.array(1.0))

    @bo.jit
    def inner(x):
        v.value += x
        return v.value

    outer = bo.jit(lambda x: inner(x) + inner(2 * x))

    assert float(outer(1.0)) == 2.0 + 4.0
    assert float(inner(1.0)) == 5.0
    assert float(outer(1.0)) == 6.0 + 8.0


def test_an_inner_function_takes_variables_of_the_outer_trace():
    held = {}

    @bo.jit
    def inner(x):
        held["v"].value += x

    @bo.jit
    def outer(x):
        held["v"] = bo.Variable(jnp.zeros(2))
        inner(x)
        inner(x)
        return held["v"].value

    outer_results = [outer(jnp.ones(2)).tolist() for _ in range(2)]
    held["v"] = bo.Variable(jnp.zeros(2))
    inner(3.0)

    assert outer_results == [[2.0, 2.0]] * 2
    assert held["v"].value.tolist() == [3.0, 3.0]


def test_an_error_in_a_retrace_leaves_earlier_programs_working():
    v = bo.Variable(jnp.array(0.0))

    @bo.jit
    def step(x):
        v.value += x.sum()
        if x.ndim == 2:
            raise KeyError("two axes")

    step(jnp.ones(2))
    with pytest.raises(KeyError, match="two axes"):
        step(jnp.ones((2, 2)))
    step(jnp.ones(2))

    assert float(v) == 4.0


def test_the_methods_of_jax_jit_are_there():
    v = bo.Variable(jnp.zeros(3))

    @bo.jit
    def step(x):
        v.value += x
        return v.value.sum()

    assert step.eval_shape(jnp.ones(3)).shape == ()
    assert "while" not in step.lower(jnp.ones(3)).as_text()
    assert len(step.trace(jnp.ones(3)).jaxpr.out_avals) == 2
    assert v.value.tolist() == [0.0, 0.0, 0.0]

    step(jnp.ones(3))
    step.clear_cache()
    step(jnp.ones(3))

    assert v.value.tolist() == [2.0, 2.0, 2.0]


def test_shardings_are_aligned_to_the_arguments():
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("d",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    v = bo.Variable(jax.device_put(jnp.zeros(4), whole))

    @bo.jit(in_shardings=(split, whole), out_shardings=split)
    def step(x, y):
        v.value += x
        return x * y

    out = step(jnp.ones(4), jnp.ones(4))

    assert out.sharding.is_equivalent_to(split, 1)
    assert v.value.tolist() == [1.0] * 4


def test_plain_jax_grad_and_vmap_go_through_a_reading_function():
    w = bo.Variable([1.0, 2.0])
    f = bo.jit(lambda x: (w * x**2).sum())

    assert jax.grad(f)(jnp.array([1.0, 1.0])).tolist() == [2.0, 4.0]
    np.testing.assert_array_equal(jax.vmap(f)(jnp.ones((3, 2))), [3.0] * 3)
    assert float(f(jnp.ones(2))) == 3.0


def test_a_variable_that_holds_a_pytree_is_threaded():
    v = bo.Variable({"a": jnp.zeros(2), "b": (jnp.ones(()),)})
    before = v.value["a"]

    @bo.jit
    def step():
        v.value = jax.tree.map(lambda x: x + 1, v.value)

    step()
    step()

    assert v.value["a"].tolist() == [2.0, 2.0]
    assert before.tolist() == [0.0, 0.0]


def test_unknown_options_are_refused_at_once():
    with pytest.raises(TypeError, match=r"donate_argnums[\s\S]*keep it in a Variable"):
        bo.jit(lambda x: x, donate_argnums=0)


def test_only_functions_are_compiled():
    with pytest.raises(TypeError, match="not a int"):
        bo.jit(3)
