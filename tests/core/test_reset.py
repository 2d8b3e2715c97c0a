# SPDX-License-Identifier: Apache-2.0
"""`reset` sets state back to its first values, and nothing else."""

import copy
import gc
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo


class Cell(bo.Node):
    def __init__(self):
        self.w = bo.TrainVar([0.5, 2.0])
        self.v = bo.Variable(jnp.full((1, 2), -65.0), batch_axis=0)
        self.spikes = bo.Variable((1, 2), "int32", batch_axis=0)
        self.trace = [bo.Variable([1.0, 2.0])]
        self.rng = bo.RandomState(0)

    def __call__(self, x):
        self.v.value = self.v + self.w.value[None] * x + self.rng.normal((1, 2))
        self.spikes.value = self.spikes + 1
        self.trace[0].value = self.trace[0] * 2
        return self.v.value.sum()


FIRST = {"v": [[-65.0, -65.0]], "spikes": [[0, 0]], "trace.0": [1.0, 2.0]}
COPIES = {
    "itself": lambda cell: cell,
    "deepcopy": copy.deepcopy,
    "pickle": lambda cell: pickle.loads(pickle.dumps(cell)),
}


def _state(cell):
    return {path: cell.vars()[path].value.tolist() for path in FIRST}


@pytest.mark.parametrize("way", COPIES)
def test_state_goes_back_and_weights_stay(way):
    cell = Cell()
    step = bo.jit(cell)
    step(1.0)
    step(2.0)
    cell.w.value = cell.w * 3
    cell = COPIES[way](cell)
    key = np.asarray(jax.random.key_data(cell.rng.value))

    cell.reset()

    assert _state(cell) == FIRST
    assert cell.w.value.tolist() == [1.5, 6.0]
    assert np.array_equal(jax.random.key_data(cell.rng.value), key)


@pytest.mark.parametrize("through", ["eager", "jit", "grad"])
def test_a_reset_inside_a_transform_is_that_of_eager_code(through):
    cell = Cell()
    cell(1.0)

    def loss(x):
        cell.reset(batch_size=3)
        return cell.v.value.sum() * x

    loss = {"eager": loss, "jit": bo.jit(loss), "grad": bo.grad(loss)}[through]
    out = loss(2.0)

    assert float(out) == -65.0 * 6 * (1 if through == "grad" else 2)
    assert cell.v.value.tolist() == [[-65.0, -65.0]] * 3


def test_the_batch_axis_alone_is_resized():
    cell = Cell()

    cell.reset(batch_size=4)

    assert (cell.v.shape, cell.spikes.shape, cell.trace[0].shape) == (
        (4, 2),
        (4, 2),
        (2,),
    )
    cell.reset()
    assert _state(cell) == FIRST


def test_an_optimizer_keeps_its_state():
    trainer = bo.Node()
    trainer.cell = Cell()
    trainer.opt = bo.optim.AdamW(0.1, trainer.cell.train_vars())
    trainer.opt.update({"w": jnp.ones(2)})
    before = {k: np.asarray(v) for k, v in trainer.opt.state_dict().items()}

    trainer.reset()

    for path, value in trainer.opt.state_dict().items():
        np.testing.assert_array_equal(value, before[path])


def test_a_moved_node_stays_where_it_is():
    cell = Cell().to("cpu:1")

    cell.reset(batch_size=2)

    assert {d.id for v in cell.vars().values() for d in v.value.devices()} == {1}


def test_what_cannot_be_reset_is_named_and_nothing_changes():
    cell = Cell()
    cell(1.0)
    before = _state(cell)
    cell.rows = bo.Variable([[1.0], [2.0]], batch_axis=0)
    with pytest.raises(bo.errors.VariableError, match="rows: the rows of its first"):
        cell.reset(batch_size=3)
    leaves, tree = jax.tree.flatten(cell)
    other = jax.tree.unflatten(tree, leaves)
    with pytest.raises(bo.errors.VariableError, match=r"not known:\n  v\n"):
        other.reset()

    assert _state(cell) == before


def test_a_batch_size_without_a_batch_axis_is_refused():
    node = bo.Node()
    node.v = bo.Variable([1.0])

    with pytest.raises(bo.errors.VariableError, match="no Variable has a batch axis"):
        node.reset(batch_size=2)


def test_a_step_after_a_reset_may_be_donated():
    cell = Cell()
    step = bo.jit(cell)
    first = float(step(1.0))
    cell.rng.seed(0)
    cell.reset()

    assert float(step(1.0)) == first
    cell.reset()
    assert _state(cell) == FIRST


@pytest.mark.parametrize("fill", [0.0, -65.0])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_large_state_of_one_number_is_not_held_twice(fill, dtype):
    before = _bytes()
    node = bo.Node()
    node.v = bo.Variable(jnp.full((100, 1000), fill, dtype))
    first, size = np.asarray(node.v.value).copy(), node.v.value.nbytes
    node.v.value = node.v.value * 0 + 1
    held = _bytes() - before
    node.reset()
    np.testing.assert_array_equal(node.v.value, first)
    assert node.v.value.dtype == dtype
    assert held < 1.5 * size


def test_a_large_state_of_several_numbers_returns_too():
    node = bo.Node()
    node.v = bo.Variable(jnp.arange(100_000.0).at[0].set(jnp.nan))
    first = np.asarray(node.v.value).copy()
    node.v.value = jnp.zeros(100_000)
    node.reset()
    np.testing.assert_array_equal(node.v.value, first)


def _bytes():
    gc.collect()
    return sum(x.nbytes for x in jax.live_arrays())
