# SPDX-License-Identifier: Apache-2.0
"""What goes into a file comes out bit for bit, or is refused by path: R10."""

import collections
import datetime
import enum
import functools
import threading

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.checkpoint.format import _layout
from brainopt.checkpoint.tree._leaves import ArrayLeaf, Unstorable
from brainopt.errors import CheckpointError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

NUMPY = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
NUMPY += ["uint64", "float16", "float32", "float64", "complex64", "complex128"]
EXTENDED = [
    name
    for name in dir(ml_dtypes)
    if isinstance(getattr(ml_dtypes, name), type)
    and issubclass(getattr(ml_dtypes, name), np.generic)
]


def there_and_back(tree, folder):
    checkpoint.save(folder / "f", tree)
    return checkpoint.load(folder / "f")


@pytest.mark.parametrize("name", NUMPY + EXTENDED)
def test_every_bit_pattern_of_every_dtype_comes_back(tmp_path, name):
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    if name == "bool" or ("int" in name and dtype.itemsize == 1):
        array = np.arange(2 if name in ("bool", "uint1") else 8).astype("i1")
        array = array.astype(dtype)
    else:
        raw = np.random.default_rng(1).bytes(64 * dtype.itemsize)
        array = np.frombuffer(raw, np.uint8).view(dtype)
    tree = {"a": array, "zero_d": array[:1].reshape(()), "scalar": array[1]}
    tree |= {"empty": array[:0].reshape(0, 3), "strided": array[::2]}
    loaded = there_and_back(tree, tmp_path)
    assert same(tree, loaded)
    assert type(loaded["scalar"]) is type(array[1])


@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "int4", "bool", "float16"])
def test_jax_arrays_come_back_as_numpy_arrays_of_their_dtype(tmp_path, name):
    value = jnp.arange(6).reshape(2, 3).astype(name)
    loaded = there_and_back({"v": value}, tmp_path)["v"]
    assert type(loaded) is np.ndarray and same(np.asarray(value), loaded)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_prng_keys_come_back_as_keys_of_their_kind(tmp_path, impl):
    key = jax.random.key(3, impl=impl)
    tree = {"one": key, "many": jax.random.split(key, 6).reshape(2, 3)}
    loaded = there_and_back(tree, tmp_path)
    assert same(tree, loaded)
    assert jax.random.bits(loaded["one"]) == jax.random.bits(key)


PLAIN = {
    "None": None,
    "bools": [True, False],
    "ints": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, -(2**200)],
    "huge int": 3**100_000,
    "floats": [0.0, -0.0, 1e-320, float("inf"), float("-inf"), float("nan")],
    "complexes": [1j, complex(-0.0, float("inf"))],
    "texts": ["", "ü", "日本", "a.b", "\0", "\U0001f600", "é" * 3_000, "x" * 100_000],
    "bytes": [b"", b"\0\xff", bytes(range(256)) * 100],
    "empty": [{}, [], (), [()], {"": {}}],
    "nested": {"a": [({"b": ([1], (2,))},)]},
    "keys": {1: "i", -1: "n", True and "t": 1, None: 2, 2.5: 3, b"x": 4, "": 5},
    "dots": {"a.b": 1, "a": {"b": 2}, "a ": 3, "日.本": 4, "x" * 4096: 5},
    "markers": {"__msgpack_chunked_array__": True, "shape": {}, "meta": 1, "state": 2},
    "order": {"z": 1, "a": 2, "m": 3},
    "deep": functools.reduce(lambda inner, _: [inner], range(60), 1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_come_back_as_the_same_type(tmp_path, name):
    assert same(PLAIN[name], there_and_back(PLAIN[name], tmp_path))


def _arrays():
    nan = np.array([0x7FC00001, 0xFFC12345, 0x7F800001], np.uint32).view(np.float32)
    base = np.arange(24.0).reshape(2, 3, 4)
    return {
        "nan payloads": nan,
        "minus zero": np.array([-0.0]),
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "reversed": base[::-1, :, ::2],
        "broadcast": np.broadcast_to(np.float32(3), (3, 2)),
        "big endian": np.arange(5, dtype=">f8"),
        "big ints": np.arange(5, dtype=">i2"),
        "read only": np.frombuffer(b"12345678", np.int64),
        "thirty-two axes": np.zeros((1,) * 32),
        "zero by many": np.zeros((0, 2**40), np.int8),
    }


@pytest.mark.parametrize("name", _arrays())
def test_every_layout_of_memory_comes_back(tmp_path, name):
    array = _arrays()[name]
    assert same(array, there_and_back(array, tmp_path))


def test_a_sharded_array_is_saved_whole(tmp_path):
    mesh = jax.make_mesh((2,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    value = jax.device_put(jnp.arange(8.0).reshape(4, 2), sharding)
    loaded = there_and_back(value, tmp_path)
    assert same(np.arange(8, dtype="f4").reshape(4, 2), loaded)


def test_an_array_of_several_segments_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(_layout, "SEGMENT", 2 << 20)
    tree = {"a": np.arange(5 << 18, dtype="i4"), "b": np.arange(3.0)}
    assert same(tree, there_and_back(tree, tmp_path))


def test_large_arrays_come_back_through_the_threads(tmp_path):
    tree = {"a": jnp.arange(6 << 20, dtype="uint32"), "b": np.arange(5 << 20)}
    loaded = there_and_back(tree, tmp_path)
    assert same(tree, loaded)
    checkpoint.verify(tmp_path / "f")


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")

UNSTORABLE = {
    "object": object(),
    "objects": np.array([object()]),
    "texts": np.array(["a"]),
    "records": np.zeros(2, [("a", "f4")]),
    "times": np.zeros(2, "datetime64[s]"),
    "long double": np.zeros(2, np.longdouble),
    "masked": np.ma.zeros(2),
    "date": datetime.date(2025, 1, 1),
    "set": {1},
    "function": print,
    "class": FakeNode,
    "enum": Colour.RED,
    "named tuple": Point(1, 2),
    "ordered": collections.OrderedDict(a=1),
    "half a pair": "\ud800",
    "tuple key": {(1, 2): 3},
    "nan key": {float("nan"): 3},
    "long key": {"x" * 4097: 3},
    "huge key": {2**70: 3},
    "too deep": functools.reduce(lambda inner, _: [inner], range(70), 1),
    "bytearray": bytearray(b"x"),
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_what_cannot_be_stored_is_refused_by_path(tmp_path, name):
    checkpoint.save(tmp_path / "f", 1)
    tree = {"fine": 1, "net": [0, {"bad": UNSTORABLE[name]}]}
    with pytest.raises(CheckpointError, match=r"net\.1\.bad"):
        checkpoint.save(tmp_path / "f", tree)
    assert checkpoint.load(tmp_path / "f") == 1


def test_everything_that_cannot_be_stored_is_listed_at_once(tmp_path):
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.save(tmp_path / "f", {"a": {1}, "b": [print], "c": 1})
    assert "a: a builtins.set" in str(refusal.value) and "b.0: " in str(refusal.value)
    assert not (tmp_path / "f").exists()


def test_a_tree_within_itself_is_refused(tmp_path):
    tree = [1]
    tree += [tree, tree]
    with pytest.raises(CheckpointError, match="within itself"):
        checkpoint.save(tmp_path / "f", tree)


def test_a_deleted_array_is_refused_by_path(tmp_path):
    gone = jnp.ones(3)
    gone.delete()
    with pytest.raises(CheckpointError, match=r"net\.W: its array was deleted"):
        checkpoint.save(tmp_path / "f", {"net": FakeNode({"W": gone})})


def test_an_array_that_is_donated_while_it_is_taken_is_refused():
    array = jnp.ones(3)
    leaf = ArrayLeaf(array)
    array.delete()
    with pytest.raises(Unstorable, match="deleted"):
        leaf.own()


def test_a_tracer_is_refused_by_path(tmp_path):
    @jax.jit
    def step(x):
        checkpoint.save(tmp_path / "f", {"x": x})

    with pytest.raises(CheckpointError, match="x: a tracer"):
        step(jnp.ones(3))


def test_a_failed_computation_is_refused_by_path(tmp_path, monkeypatch):
    def failed(_):  # a CPU alone reports failures at the call, an accelerator here
        raise RuntimeError("sensor lost")

    checkpoint.save(tmp_path / "f", 1)
    monkeypatch.setattr(jax, "block_until_ready", failed)
    with pytest.raises(CheckpointError, match="bad: its computation failed: sensor"):
        checkpoint.save(tmp_path / "f", {"bad": jnp.ones(2)})
    assert checkpoint.load(tmp_path / "f") == 1


def test_too_many_values_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_layout, "MAX_PLAIN", 100)
    with pytest.raises(CheckpointError, match="101 plain values and containers"):
        checkpoint.save(tmp_path / "f", [None] * 100)
    checkpoint.save(tmp_path / "f", [None] * 99)
    assert checkpoint.load(tmp_path / "f") == [None] * 99
    more = [None] * 109 + [np.zeros(1, "f4")] * 10
    checkpoint.save(tmp_path / "f", more)
    assert same(checkpoint.load(tmp_path / "f"), more)


def test_too_many_prng_keys_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_layout, "MAX_PRNG_KEYS", 3)
    keys = list(jax.random.split(jax.random.key(1), 4))
    with pytest.raises(CheckpointError, match="4 PRNG keys"):
        checkpoint.save(tmp_path / "f", keys)
    checkpoint.save(tmp_path / "f", {"all": jax.numpy.stack(keys)})
    assert checkpoint.load(tmp_path / "f")["all"].shape == (4,)


def test_too_much_text_is_refused_and_never_unreadable(tmp_path):
    with pytest.raises(CheckpointError, match="8 MiB"):
        checkpoint.save(tmp_path / "f", ["x" * (5 << 20)] * 2)
    with pytest.raises(CheckpointError, match="16 MiB"):
        checkpoint.save(tmp_path / "f", ["x" * 4000] * 5_000)


def test_a_nested_state_dict_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.b: a state dict"):
        checkpoint.save(tmp_path / "f", {"a": FakeNode({"b": {"c": 1}})})


def test_jax_arrays_are_copies_of_the_stored_dtype(tmp_path, x64):
    checkpoint.save(tmp_path / "f", {"a": np.arange(3.0), "n": 1})
    loaded = checkpoint.load(tmp_path / "f", arrays="jax")
    assert isinstance(loaded["a"], jax.Array) and loaded["a"].dtype == "float64"
    assert type(loaded["n"]) is int


def test_float64_is_not_halved_silently(tmp_path):
    checkpoint.save(tmp_path / "f", {"net": {"a": np.arange(3.0)}})
    with pytest.raises(CheckpointError, match=r"net\.a: stored float64"):
        checkpoint.load(tmp_path / "f", arrays="jax")
    cast = checkpoint.load(tmp_path / "f", arrays="jax", cast=True)
    assert cast["net"]["a"].dtype == "float32"


def test_a_state_is_saved_from_one_instant(tmp_path):
    net, opt = FakeNode({"w": jnp.int32(0)}), FakeNode({"step": jnp.int32(0)})
    both = net._stage_state_dict({}), opt._stage_state_dict({})
    stop = threading.Event()

    def train():
        step = 0
        while not stop.is_set():
            step += 1
            value = np.full((), step, "i4")
            both[0].pairs = [(net.variables["w"], value)]
            both[1].pairs = [(opt.variables["step"], value)]
            both[0].commit_with(both[1])
            stop.wait(1e-4)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(50):
            checkpoint.save(tmp_path / "f", {"net": net, "opt": opt})
            loaded = checkpoint.load(tmp_path / "f")
            assert loaded["net"]["w"] == loaded["opt"]["step"]
    finally:
        stop.set()
        thread.join()


def test_jax_arrays_of_big_endian_numbers_have_the_same_numbers(tmp_path):
    checkpoint.save(tmp_path / "f", {"a": np.arange(3, dtype=">f4")})
    loaded = checkpoint.load(tmp_path / "f", arrays="jax")
    assert loaded["a"].dtype == "float32" and loaded["a"].tolist() == [0, 1, 2]
    checkpoint.save(tmp_path / "f", {"a": np.arange(3, dtype=">f8")})
    with pytest.raises(CheckpointError, match="a: stored float64"):
        checkpoint.load(tmp_path / "f", arrays="jax")


def test_what_jax_does_not_take_is_named(tmp_path):
    tree = {"a": np.ones(2, ml_dtypes.float6_e2m3fn), "b": np.ones(2, "f4")}
    checkpoint.save(tmp_path / "f", tree)
    with pytest.raises(CheckpointError, match="a: stored float6_e2m3fn"):
        checkpoint.load(tmp_path / "f", arrays="jax")
