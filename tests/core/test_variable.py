# SPDX-License-Identifier: Apache-2.0
"""A Variable: its axes, how it is shown and copied, and the traces it lives in."""

import copy
import gc
import pickle
import threading

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import TraceContextError, VariableError


def test_the_batch_axis_may_change_its_size():
    v = bo.Variable((4, 3), batch_axis=0)

    v.value = jnp.ones((7, 3))

    assert (v.batch_size, v.size_without_batch) == (7, (3,))
    with pytest.raises(VariableError, match=r"\(axis 0 may change\)"):
        v.value = jnp.ones((7, 4))
    with pytest.raises(VariableError):
        v.value = jnp.ones((7,))


def test_a_batch_axis_is_fixed_at_construction():
    v = bo.Variable((4, 3), batch_axis=0)

    with pytest.raises(bo.errors.VariableError, match="is fixed"):
        v.batch_axis = 1

    assert v.batch_axis == 0 and v.batch_size == 4


def test_a_batch_axis_counts_from_the_end_too():
    v = bo.Variable((4, 3), batch_axis=-1)

    assert (v.batch_axis, v.batch_size, v.size_without_batch) == (1, 3, (4,))


def test_without_a_batch_axis_nothing_may_change():
    v = bo.Variable((4, 3))

    assert (v.batch_axis, v.batch_size, v.size_without_batch) == (None, None, (4, 3))


@pytest.mark.parametrize("axis", [2, -3])
def test_a_batch_axis_must_be_there(axis):
    with pytest.raises(VariableError, match="2 axes"):
        bo.Variable((4, 3), batch_axis=axis)


def test_each_axis_has_a_name():
    v = bo.Variable((4, 3), axis_names=("pre", "post"))
    w = bo.Variable((4, 3, 2), batch_axis=1, axis_names=["pre", "post"])

    assert v.axis_names == ("pre", "post")
    assert w.axis_names == ("pre", "batch", "post")
    with pytest.raises(VariableError, match="2 axes"):
        bo.Variable((4, 3), axis_names=("pre",))


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_a_copy_keeps_everything_and_shares_nothing(make):
    v = bo.TrainVar([[1.0, 2.0]], batch_axis=0, axis_names=("b", "n"), name="W")

    new = make(v)
    new += 1

    assert type(new) is bo.TrainVar and v.value.tolist() == [[1.0, 2.0]]
    assert new.value.tolist() == [[2.0, 3.0]]
    assert (new.name, new.batch_axis, new.axis_names) == ("W", 0, ("b", "n"))


def test_a_shallow_copy_is_another_variable():
    v = bo.Variable([1.0])

    new = copy.copy(v)
    new += 1

    assert v.value.tolist() == [1.0] and new.value.tolist() == [2.0]


class Tagged(bo.TrainVar):
    """A kind of a user, with attributes of its own."""

    def __init__(self, value, tags):
        super().__init__(value)
        self.tags = tags


@pytest.mark.parametrize(
    "make",
    [
        copy.copy,
        copy.deepcopy,
        lambda v: pickle.loads(pickle.dumps(v)),
        jax.jit(lambda v: v),
        lambda v: jax.tree.map(lambda x: x, v),
    ],
)
def test_the_attributes_of_a_kind_of_variable_survive(make):
    v = Tagged([1.0], ["slow"])

    assert make(v).tags == ["slow"]


def test_equal_attributes_share_a_compilation(counted):
    fn = counted(lambda v: v.value * len(v.tags))
    fast = jax.jit(fn)

    for tags in (["a"], ["a"], ["a", "b"]):
        fast(Tagged([1.0], tags))

    assert fn.traces == 2


def test_a_variable_is_a_pytree_of_its_value():
    v = bo.Variable([1.0, 2.0], batch_axis=0)

    doubled = jax.tree.map(lambda x: 2 * x, v)

    assert type(doubled) is bo.Variable and doubled.batch_axis == 0
    assert doubled.value.tolist() == [2.0, 4.0]
    assert jax.tree_util.tree_leaves_with_path(v)[0][0][0].name == "value"


def test_shapes_without_numbers_pass_through_a_variable():
    out = jax.eval_shape(lambda v: v, bo.Variable((2, 3)))

    assert out.value.shape == (2, 3)
    assert repr(out) == "Variable(shape=(2, 3), dtype=float32)"


@pytest.mark.parametrize(
    ("variable", "shown"),
    [
        (
            bo.TrainVar([0.1, 2.0], name="W"),
            "TrainVar('W', shape=(2,), dtype=float32, device=cpu:0, value=[0.1, 2. ])",
        ),
        (bo.Variable((9, 9)), "Variable(shape=(9, 9), dtype=float32, device=cpu:0)"),
        (
            bo.Variable({"a": [True]}),
            "Variable(a: shape=(1,), dtype=bool, device=cpu:0, value=[ True])",
        ),
        (
            bo.RandomState(0),
            "RandomState(shape=(), dtype=key<fry>, device=cpu:0)",
        ),
    ],
)
def test_repr_shows_name_shape_dtype_device_and_few_numbers(variable, shown):
    assert repr(variable) == shown


def test_repr_shows_a_sharding_in_short():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))

    v = bo.Variable(jax.device_put(jnp.arange(4.0), spec))

    assert "sharding=('x',) on 2 cpu, value=[0., 1., 2., 3.]" in repr(v)


def test_repr_works_inside_a_transform():
    v = bo.Variable([1.0])
    said = []

    bo.jit(lambda: said.append(repr(v)))()

    assert said[-1] == "Variable(shape=(1,), dtype=float32, traced)"


def test_repr_of_a_value_that_is_gone_says_so():
    v = bo.Variable(jnp.ones(2))
    v.value.delete()

    assert "lost" in repr(v)


def test_a_missing_attribute_is_an_attribute_error():
    v = bo.Variable([1.0])

    assert not hasattr(v, "nothing") and not hasattr(v, "__array_interface__")
    with pytest.raises(AttributeError):
        v.colour = "red"


def test_a_write_in_a_plain_jax_trace_names_the_variable():
    v = bo.Variable([1.0], name="V")

    with pytest.raises(TraceContextError, match="Variable 'V' is written"):
        jax.jit(lambda x: v.update(x))(jnp.ones(1))

    assert v.value.tolist() == [1.0]


def test_a_variable_of_an_ended_trace_says_so():
    kept = []

    bo.jit(lambda x: kept.append(bo.Variable(x, name="V")))(jnp.ones(2))

    with pytest.raises(TraceContextError, match="'V' was created inside"):
        kept[0].value
    assert repr(kept[0]) == "Variable(<ended with its trace>)"


def test_another_thread_sees_no_value_of_a_trace():
    v = bo.Variable([1.0])
    seen = []

    @bo.jit
    def step():
        v.value = v.value + 1
        thread = threading.Thread(target=lambda: seen.append(v.value.tolist()))
        thread.start()
        thread.join()

    step()

    assert set(map(tuple, seen)) == {(1.0,)} and v.value.tolist() == [2.0]


def test_a_variable_holds_no_garbage():
    v = bo.Variable([1.0])
    v += 1
    gc.collect()
    before = len(jax.live_arrays())

    for _ in range(5):
        v += 1
    gc.collect()

    assert len(jax.live_arrays()) <= before


def test_repr_never_raises():
    v, said = bo.Variable([1.0]), []

    def outer(x):
        inner = jax.jit(lambda y: said.append(y) or y.value)
        inner(v)
        return repr(said[-1])

    bo.jit(lambda: said.append(outer(v)) or v.value)()

    assert said[-1] == "Variable(<ended with its trace>)"
