# SPDX-License-Identifier: Apache-2.0
"""State dicts: out by path, in as one act, whoever wrote them."""

import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import PathError, StateDictError

from .nets import NET_VARS, Cell, Net


def _make(**attributes):
    node = bo.Node()
    for key, value in attributes.items():
        setattr(node, key, value)
    return node


def _lists(state):
    return {key: np.asarray(value).tolist() for key, value in state.items()}


def test_a_state_dict_is_values_by_path():
    state = Cell().state_dict()

    assert type(state) is dict
    assert _lists(state) == {"W": [0.0, 1.0], "V": [0.0, 0.0]}
    assert list(Net().state_dict()) == NET_VARS


def test_a_state_dict_holds_the_arrays_themselves():
    cell = Cell()

    assert cell.state_dict()["W"] is cell.W.value


def test_a_shared_variable_is_saved_once():
    cell = Cell()

    assert list(_make(a=cell, b=cell, c=cell.W).state_dict()) == ["c", "a.V"]


def test_a_pytree_is_saved_leaf_by_leaf():
    node = _make(p=bo.TrainVar({"W": [1.0], "b": (jnp.ones(2), jnp.zeros(1))}))
    other = _make(p=bo.TrainVar({"W": [5.0], "b": (jnp.zeros(2), jnp.ones(1))}))

    other.load_state_dict(node.state_dict())

    assert list(node.state_dict()) == ["p.W", "p.b.0", "p.b.1"]
    assert _lists(other.state_dict()) == {
        "p.W": [1.0],
        "p.b.0": [1.0, 1.0],
        "p.b.1": [0.0],
    }


def test_leaves_and_variables_may_not_share_a_path():
    node = _make(p=bo.Variable({"a": [1.0]}))
    node.q = {"p.a": 1}
    node.register_implicit_vars({"p.a": bo.Variable([2.0])})

    with pytest.raises(PathError, match=r"p\.a"):
        node.state_dict()


def test_a_second_instance_in_the_process_loads():
    first, second = Net(), Net()
    first.layers[1].W = [7.0, 8.0, 9.0]
    first.rng.normal()

    result = second.load_state_dict(first.state_dict())

    assert (result.missing, result.unexpected, result.mismatched) == ([], [], [])
    assert second.layers[1].W.value.tolist() == [7.0, 8.0, 9.0]
    assert float(first.rng.normal()) == float(second.rng.normal())


def test_everything_that_does_not_fit_is_said_at_once_and_nothing_changes():
    net = Net()
    before = net.state_dict()
    state = {
        **{key: np.asarray(value) + 1 for key, value in before.items() if key != "rng"},
        "rng": np.zeros(2),
        "layers.0.W": np.zeros((2, 2), np.float32),
        "layers.1.W": np.zeros(3, np.int32),
        "extra": 1.0,
    }
    del state["gain"]

    with pytest.raises(StateDictError) as caught:
        net.load_state_dict(state)

    assert str(caught.value).splitlines() == [
        "The state dict does not fit this Net:",
        "  missing: gain",
        "  unexpected: extra",
        "  rng: stored (2,) float64, variable () key<fry>",
        "  layers.0.W: stored (2, 2) float32, variable (2,) float32",
        "  layers.1.W: stored (3,) int32, variable (3,) float32",
        "help: compare with `node.state_dict()`; `strict=False` loads what fits, "
        "`cast=True` converts dtypes.",
    ]
    assert all(net.state_dict()[key] is value for key, value in before.items())


def test_not_strict_loads_what_fits_and_reports():
    cell = Cell()

    with pytest.warns(UserWarning, match="missing: V") as caught:
        result = cell.load_state_dict({"W": [3.0, 4.0], "x": 1}, strict=False)

    assert caught[0].filename == __file__
    assert (result.missing, result.unexpected, result.mismatched) == (["V"], ["x"], [])
    assert bool(result) and cell.W.value.tolist() == [3.0, 4.0]


def test_warn_false_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Cell().load_state_dict({"W": np.ones(3)}, False, strict=False)

    assert result.missing == ["V"]
    assert result.mismatched == ["W: stored (3,) float64, variable (2,) float32"]


def test_half_a_pytree_is_not_loaded():
    node = _make(p=bo.Variable({"W": [1.0], "b": [2.0]}))

    result = node.load_state_dict({"p.W": [9.0]}, warn=False, strict=False)

    assert result.missing == ["p.b"]
    assert _lists(node.p.value) == {"W": [1.0], "b": [2.0]}


@pytest.mark.parametrize("alias", ["a.W", "b.W", "again"])
def test_any_path_of_a_shared_variable_loads(alias):
    cell = Cell()
    node = _make(a=cell, b=cell, again=cell.W)

    node.load_state_dict({alias: [5.0, 6.0], "b.V": [7.0, 8.0]})

    assert cell.W.value.tolist() == [5.0, 6.0] and cell.V.value.tolist() == [7.0, 8.0]


def test_a_path_that_no_collector_lists_loads_too():
    deep = _make(cell=Cell())
    net = _make(first=deep, second=[deep])

    net.load_state_dict({"second.0.cell.W": [5.0, 6.0], "first.cell.V": [0.0, 1.0]})

    assert deep.cell.W.value.tolist() == [5.0, 6.0]


def test_one_variable_takes_one_value():
    cell = Cell()
    node = _make(a=cell, b=cell)
    same = {"a.W": [5.0, 6.0], "b.W": [5.0, 6.0], "a.V": [0.0, 0.0]}

    node.load_state_dict(same)
    with pytest.raises(StateDictError, match=r"a\.W and b\.W differ"):
        node.load_state_dict({**same, "b.W": [5.0, 7.0]})

    assert cell.W.value.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("compatible", ["v1", "v2"])
def test_the_absolute_layouts_of_brainpy_load(compatible):
    net = _make(cells=bo.NodeList([Cell(), Cell()]), vs=bo.VarList([[1.0]]))
    first, second = (cell.name for cell in net.cells)
    nested = {
        net.name: {f"{net.name}.vs-0": np.float32([9.0])},
        first: {f"{first}.W": np.float32([1, 2]), f"{first}.V": np.float32([3, 4])},
        second: {f"{second}.W": np.float32([5, 6]), f"{second}.V": np.float32([7, 8])},
    }
    flat = {key: value for part in nested.values() for key, value in part.items()}

    net.load_state_dict(nested if compatible == "v2" else flat, True, compatible)

    assert _lists(net.state_dict()) == {
        "vs.0": [9.0],
        "cells.0.W": [1.0, 2.0],
        "cells.0.V": [3.0, 4.0],
        "cells.1.W": [5.0, 6.0],
        "cells.1.V": [7.0, 8.0],
    }


def test_what_is_no_mapping_is_refused():
    with pytest.raises(StateDictError, match="A list is no state dict"):
        Cell().load_state_dict([np.ones(2)])


def test_another_layout_is_refused():
    with pytest.raises(ValueError, match="'v1' or 'v2'"):
        Cell().load_state_dict({}, compatible="v3")


@pytest.mark.parametrize(
    ("stored", "fits", "fits_cast"),
    [
        (np.float32([1, 2]), True, True),
        ([1, 2], True, True),
        ([1.0, 2.0], True, True),
        (np.float64([1, 2]), False, True),
        (np.float16([1, 2]), False, True),
        (np.int64([1, 2]), False, True),
        (np.complex64([1, 2]), False, False),
        (np.array(["1", "2"]), False, False),
        ([[1], [1, 2]], False, False),
        (None, False, False),
    ],
)
def test_dtypes_are_kept_unless_asked(stored, fits, fits_cast):
    for cast, fine in ((False, fits), (True, fits_cast)):
        node = _make(W=bo.Variable([0.0, 0.0]))
        report = node.load_state_dict(
            {"W": stored}, warn=False, strict=False, cast=cast
        )
        assert bool(report) is not fine
        assert node.W.value.tolist() == ([1.0, 2.0] if fine else [0.0, 0.0])
        assert node.W.dtype == jnp.float32


def test_a_float_never_becomes_an_int():
    node = _make(n=bo.Variable([1]))

    with pytest.raises(StateDictError, match=r"n: stored \(1,\) float32"):
        node.load_state_dict({"n": np.float32([2.5])}, cast=True)


def test_a_typed_key_takes_a_key_of_its_own_kind():
    node = _make(rng=bo.RandomState(0))

    node.load_state_dict({"rng": jax.random.key(5)})
    with pytest.raises(StateDictError, match="key<rbg>, variable"):
        node.load_state_dict({"rng": jax.random.key(5, impl="rbg")})

    assert jax.random.key_data(node.rng.value).tolist() == [0, 5]


def test_the_batch_axis_may_be_loaded_in_another_size():
    node = _make(h=bo.Variable((2, 3), batch_axis=0))

    node.load_state_dict({"h": np.ones((5, 3), np.float32)})

    assert node.h.shape == (5, 3)


@pytest.mark.parametrize("size", [2, 4096])
def test_a_loaded_numpy_array_is_not_shared(size):
    node = _make(W=bo.Variable((size,)))
    memory = np.zeros(size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    data = memory[start : start + size]

    node.load_state_dict({"W": data})
    data[:] = 1.0

    assert not np.asarray(node.W).any()


def test_a_loaded_jax_array_survives_a_donating_step():
    cell = Cell()
    state = {"W": jnp.array([5.0, 6.0]), "V": jnp.zeros(2)}
    cell.load_state_dict(state)

    bo.jit(lambda: cell.W.update(cell.W * 2))()

    assert state["W"].tolist() == [5.0, 6.0] and cell.W.value.tolist() == [10.0, 12.0]


@pytest.mark.parametrize("here", [0, 1, None])
@pytest.mark.parametrize("there", [0, 1, None])
def test_a_value_is_loaded_where_the_variable_is(here, there):
    target, source = Net(), Net()
    for net, place in ((target, here), (source, there)):
        if place is not None:
            net.to(f"cpu:{place}")

    target.load_state_dict(source.state_dict())

    values = target.state_dict().values()
    assert {v.devices().pop().id for v in values} == {here or 0}
    assert {v.committed for v in values} == {here is not None}


def test_a_state_dict_loads_inside_a_transform():
    cell = Cell()

    @bo.jit
    def load(x):
        cell.load_state_dict({"W": x, "V": x})

    load(jnp.ones(2))

    assert cell.W.value.tolist() == [1.0, 1.0]


def test_a_node_of_shapes_is_filled_by_a_state_dict():
    shapes = jax.eval_shape(lambda cell: cell, Cell(3))

    shapes.load_state_dict(Cell(3).state_dict())
    with pytest.raises(StateDictError, match="W: stored"):
        jax.eval_shape(lambda cell: cell, Cell(3)).load_state_dict(Cell(2).state_dict())

    assert shapes.W.value.tolist() == [0.0, 1.0, 2.0]


def test_staging_changes_nothing_and_commits_several_at_once():
    a, b = Cell(), Cell()

    one = a._stage_state_dict({"W": [5.0, 5.0], "V": [5.0, 5.0]})
    two = b._stage_state_dict({"W": [6.0, 6.0], "V": [6.0, 6.0]})
    assert a.W.value.tolist() == [0.0, 1.0]
    one.commit_with(two)

    assert _lists(a.state_dict()) == {"W": [5.0, 5.0], "V": [5.0, 5.0]}
    assert _lists(b.state_dict()) == {"W": [6.0, 6.0], "V": [6.0, 6.0]}


def test_the_states_of_several_nodes_are_from_one_instant():
    a, b = bo.Node(), bo.Node()
    a.x, b.x = bo.Variable(jnp.zeros(())), bo.Variable(jnp.zeros(()))

    @bo.jit
    def both():
        a.x.value += 1
        b.x.value += 1

    both()
    stop = threading.Event()

    def train():
        while not stop.is_set():
            both()

    thread = threading.Thread(target=train)
    thread.start()
    states = [a._state_dict_with(b) for _ in range(300)]
    stop.set()
    thread.join()

    torn = [one for one, two in states if int(one["x"]) != int(two["x"])]
    assert torn == []


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (np.int64([2**40]), jnp.int32),
        (np.int32([300]), jnp.int8),
        (np.int32([-1]), jnp.uint32),
        (np.int32([2**24 + 1]), jnp.float32),
        (np.float32([1e30]), jnp.float16),
        (np.float64([1e300]), jnp.float32),
    ],
)
def test_a_cast_that_changes_an_integer_or_overflows_is_refused(stored, dtype):
    node = _make(n=bo.Variable(jnp.zeros(1, dtype)))

    with pytest.raises(StateDictError, match=r"n: stored .* cannot hold all"):
        node.load_state_dict({"n": stored}, cast=True)

    assert float(node.n.value[0]) == 0


@pytest.mark.parametrize("stored", [[1.5, np.inf], [np.nan, -0.0], [2.0**-30, 1 / 3]])
def test_a_cast_may_round_and_keeps_what_is_not_finite(stored):
    node = _make(n=bo.Variable(jnp.zeros(2, jnp.float16)))

    node.load_state_dict({"n": np.float64(stored)}, cast=True)

    np.testing.assert_array_equal(node.n.value, np.float16(stored))
