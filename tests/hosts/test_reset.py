# SPDX-License-Identifier: Apache-2.0
"""`reset` of models of other frameworks, by their own functions."""

import jax.numpy as jnp
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts


def lif():
    """A population of brainpy that starts at -60 mV, and its membrane."""
    import brainpy as bp
    import brainpy.math as bm

    cells = bp.dyn.LifRef(
        3, V_initializer=bp.init.Constant(-60.0), mode=bm.batching_mode
    )
    return cells, cells.V, -60.0


def gru():
    """A cell of brainstate that starts at zero, and its state."""
    import brainstate

    cell = brainstate.nn.GRUCell(2, 3)
    brainstate.nn.init_all_states(cell)
    return cell, cell.h, 0.0


class Holder(bo.Node):
    def __init__(self, model):
        self.model = model
        self.own = bo.Variable(jnp.ones((1, 2)), batch_axis=0)


WAYS = {
    "attached": bo.attach,
    "in a node": Holder,
    "attached, in a node": lambda model: Holder(bo.attach(model)),
}
MODELS = [
    pytest.param(lif, marks=pytest.mark.hosts("brainpy")),
    pytest.param(gru, marks=pytest.mark.hosts("brainstate")),
]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_reset_gives_the_first_values_for_any_batch(make, way):
    model, state, first = make()
    root = WAYS[way](model)
    weights = {path: v.value for path, v in bo.attach(model).to_train().items()}

    for size in (4, 2):
        state.value = jnp.full((size, 3), 7.0) if size == 4 else state.value + 7
        root.reset(batch_size=size)
        assert state.value.tolist() == [[first] * 3] * size

    for path, value in weights.items():
        assert bo.attach(model)[path].value is value


@pytest.mark.parametrize("make", MODELS)
def test_after_an_error_nothing_is_reset(make):
    model, state, _ = make()
    root = Holder(model)
    root.own.value = root.own + 1
    root.reset(batch_size=2)
    root.own.value = root.own + 1
    state.value = state.value + 7
    before = state.value.tolist()

    def broken(*_):
        raise RuntimeError("no reset")

    other = make()[0]
    other.reset_state = broken
    root.other = other
    with pytest.raises(RuntimeError, match="no reset"):
        root.reset(batch_size=5)

    assert state.value.tolist() == before
    assert root.own.value.tolist() == [[2.0, 2.0]] * 2


@pytest.mark.hosts("flax")
def test_a_framework_without_reset_says_so():
    from flax import nnx

    norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))

    with pytest.raises(bo.errors.HostError, match=r"of a BatchNorm back\.\nhelp: "):
        bo.attach(norm).reset()
