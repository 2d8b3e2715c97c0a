# SPDX-License-Identifier: Apache-2.0
"""Arrays made for a load are what `jnp.array` makes, without a compilation."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import _compat
from brainopt._memory import empty
from brainopt.runtime import array_maker

DTYPES = [
    *("bool", "int8", "uint16", "int32", "float16", "bfloat16", "float32"),
    *("complex64", "float8_e4m3fn", "int4", "uint2"),
]
PLACES = {
    "nothing": contextlib.nullcontext,
    "a device": lambda: jax.default_device(jax.devices()[1]),
    "a mesh": lambda: jax.set_mesh(jax.make_mesh((2,), ("data",))),
}
SHAPES = [(), (0, 3), (2, 3), (1500,)]


def _kind(array):
    weak = array.aval.weak_type
    return array.shape, array.dtype, array.sharding, array.committed, weak


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_array_is_that_of_jnp_array(dtype, shape):
    given = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape)
    given = given.astype(jnp.dtype(dtype))
    made, expected = array_maker()(given), jnp.array(given)
    assert _kind(made) == _kind(expected)
    assert made.aval == expected.aval
    assert np.asarray(made).tobytes() == given.tobytes()


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_an_array_is_where_jnp_array_puts_it(place):
    given = np.arange(4, dtype=np.float32)
    with place():
        assert _kind(array_maker()(given)) == _kind(jnp.array(given))


@pytest.mark.parametrize("size", [4, 1 << 16])
def test_the_memory_is_its_own(size):
    given = empty((size,), np.dtype(np.float32))  # of which JAX would take the memory
    given[:] = 0.0
    made = array_maker()(given)
    given[:] = 1.0
    assert not np.asarray(made).any()


def test_a_jax_without_the_way_gets_jnp_array(monkeypatch):
    monkeypatch.setattr(_compat.importlib, "import_module", _absent)
    assert array_maker() is jnp.array


def _absent(name):
    raise ImportError(name)


def test_inside_a_trace_it_is_jnp_array():
    assert jax.eval_shape(lambda: [] if array_maker() is jnp.array else None) == []


def _node(*shapes):
    node = bo.Node()
    node.layers = [bo.TrainVar(jnp.ones(shape)) for shape in shapes]
    return node


def test_a_load_of_shapes_that_are_new_compiles_nothing(tmp_path):
    first, node = _node((2,)), _node((7, 11), (7, 12), (7, 13))
    for name, saved in (("first", first), ("second", node)):
        bo.checkpoint.save(tmp_path / name, saved)
    bo.checkpoint.restore(tmp_path / "first", first)
    state = {"layers.1": np.full((7, 12), 2, np.float32)}
    compiled = []

    def note(event, duration, **_):
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        bo.checkpoint.restore(tmp_path / "second", node)
        node.load_state_dict(state, strict=False, warn=False)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert not [event for event in compiled if "compile" in event]
    assert [float(v.value[6, 10]) for v in node.layers] == [1.0, 2.0, 1.0]
