# SPDX-License-Identifier: Apache-2.0
"""Files of other libraries are read exactly, and their optimizers go on (R22)."""

import random
import resource
import tracemalloc

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import CheckpointCorruptError, CheckpointError, PathError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.test_read import bombs
from tests.checkpoint.trees import same

W = np.arange(6, dtype="f4").reshape(2, 3)


def packed(value):
    """Write what flax writes, from its wire format."""

    def ext(value):
        if isinstance(value, complex):
            return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
        code = 3 if isinstance(value, np.generic) else 1
        body = (list(value.shape), value.dtype.name, value.tobytes())
        return msgpack.ExtType(code, msgpack.packb(body))

    return msgpack.packb(value, default=ext, strict_types=True)


TREE = {
    "params": {"layers": {"0": {"W": W}}, "b": np.zeros((0, 2), "f8")},
    "bf": np.asarray(jnp.arange(3, dtype="bfloat16")),
    "step": 3,
    "values": [True, None, -5, 2**63, -(2**40), 1.5, "ü", b"\1", [], {}],
    "c": 1 - 2j,
    "scalar": np.float32(2.5),
    "long": ["x" * 300, b"y" * 70_000, list(range(20)), {str(i): i for i in range(20)}],
}


def test_a_file_of_flax_is_read_exactly(tmp_path):
    (tmp_path / "f").write_bytes(packed(TREE))
    assert same(TREE, checkpoint.load_foreign(tmp_path / "f"))


@pytest.mark.hosts("flax")
def test_flax_itself_writes_what_we_read(tmp_path):
    from flax import serialization

    arrays = {"a": W, "c": 2j, "i": 3, "n": {"b": np.arange(3)}}
    (tmp_path / "f").write_bytes(serialization.msgpack_serialize(arrays))
    assert same(arrays, checkpoint.load_foreign(tmp_path / "f"))


def test_an_array_in_chunks_is_joined(tmp_path):
    chunks = {"0": W.reshape(-1)[:4], "1": W.reshape(-1)[4:]}
    table = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}}
    (tmp_path / "f").write_bytes(packed({"W": table | {"chunks": chunks}}))
    assert same({"W": W}, checkpoint.load_foreign(tmp_path / "f"))


def test_own_files_and_those_with_a_suffix_are_read_too(tmp_path):
    for name in ("f", "f.npz", "f.safetensors"):
        checkpoint.save(tmp_path / name, {"W": W})
        assert same({"W": W}, checkpoint.load_foreign(tmp_path / name))


def test_bombs_are_refused_or_read_within_their_limits(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs():
        (tmp_path / "f").write_bytes(bomb)
        with pytest.raises(CheckpointError):
            checkpoint.load_foreign(tmp_path / "f")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_mutated_files_raise_only_checkpoint_errors(tmp_path):
    rng, good = random.Random(20251), packed(TREE | {"long": []})
    for case in range(1_000):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        (tmp_path / "f").write_bytes(bad)
        try:
            checkpoint.load_foreign(tmp_path / "f")
        except CheckpointError:
            continue
        except Exception as error:
            raise AssertionError(case) from error


def test_load_itself_takes_no_file_of_another_kind(tmp_path):
    (tmp_path / "f").write_bytes(packed(TREE))
    with pytest.raises(CheckpointError, match="does not begin"):
        checkpoint.load(tmp_path / "f")


M, V = W * 2, W * 3
OPTAX = {"0": {"count": 7, "mu": {"l": {"W": M}}, "nu": {"l": {"W": V}}}, "1": {}}
TORCH = {
    "state.l.W.exp_avg": M,
    "state.l.W.exp_avg_sq": V,
    "state.l.W.step": np.float32(7),
}
BRAINPY_2 = {
    "AdamW0": {"AdamW0.step": np.int32(7), "AdamW0.l.W_m": M, "AdamW0.l.W_v": V},
    "Constant0": {"Constant0.last_epoch": np.int32(4)},
}
BRAINPY_1 = {k: v for part in BRAINPY_2.values() for k, v in part.items()}
STATES = {
    "optax": OPTAX,
    "optax in a train state": {"params": {"W": W}, "opt_state": {"inner": OPTAX}},
    "torch": TORCH,
    "torch bare": {k.removeprefix("state."): v for k, v in TORCH.items()},
    "brainpy v2": BRAINPY_2,
    "brainpy v1": BRAINPY_1,
    "brainpy beside its model": {
        "net": {"HH0": {"HH0.I_m": M, "HH0.V": V}, "Dense0.W": W},
        "opt": BRAINPY_2,
    },
}


@pytest.mark.parametrize("kind", STATES)
def test_the_state_of_adam_is_found(kind):
    expected = {"step": np.asarray(7, "i4"), "slots.l.W.m": M, "slots.l.W.v": V}
    if kind.startswith("brainpy"):
        expected["groups.default.schedule.last_epoch"] = np.asarray(4, "i4")
    found = checkpoint.optimizer_state(STATES[kind])
    assert same(dict(sorted(expected.items())), dict(sorted(found.items())))


@pytest.mark.parametrize(
    "tree",
    [{"W": W}, OPTAX | {"2": OPTAX["0"] | {"count": 8}}, {"a": OPTAX} | TORCH],
)
def test_no_state_or_two_states_are_refused(tree):
    with pytest.raises(CheckpointError):
        checkpoint.optimizer_state(tree)


def test_a_converted_state_restores_into_a_node(tmp_path):
    checkpoint.save(
        tmp_path / "f", {"opt": checkpoint.optimizer_state(OPTAX), "net.W": W}
    )
    opt = FakeNode({"step": np.asarray(0, "i4"), "slots.l.W.m": W, "slots.l.W.v": W})
    net = FakeNode({"W": W * 0})
    checkpoint.restore(tmp_path / "f", {"opt": opt, "net": net})
    assert same(opt.state_dict()["slots.l.W.m"], M) and same(net.state_dict()["W"], W)


def test_nested_plain_dicts_fit_a_node(tmp_path):
    checkpoint.save(tmp_path / "f", {"params": {"l": {"W": W}}})
    net = FakeNode({"l.W": W * 0})
    checkpoint.restore(tmp_path / "f", {"params": net})
    assert same(net.state_dict()["l.W"], W)


@pytest.mark.parametrize("head", [b"PK\3\4", b"\x80\2}", b"\x80\4\x95"])
def test_a_file_of_torch_save_says_what_to_write_instead(tmp_path, head):
    (tmp_path / "model.pt").write_bytes(head + bytes(40))

    with pytest.raises(CheckpointCorruptError, match=r"safetensors\.torch\.save_file"):
        checkpoint.load_foreign(tmp_path / "model.pt")


def test_a_name_that_is_not_in_the_file_is_not_renamed_in_silence(tmp_path):
    (tmp_path / "a.msgpack").write_bytes(packed({"params": {"W": W}}))

    with pytest.raises(PathError, match=r"parms[\s\S]*there are params\.W"):
        checkpoint.convert(
            tmp_path / "a.msgpack", tmp_path / "b.bopt", rename={"parms": "net"}
        )
    assert not (tmp_path / "b.bopt").exists()


@pytest.mark.hosts("orbax", "flax", "optax")
def test_an_nnx_run_that_orbax_saved_goes_on(tmp_path):
    import optax
    from flax import nnx
    from orbax import checkpoint as orbax

    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    theirs = nnx.Optimizer(model, optax.adamw(0.1, weight_decay=1e-2), wrt=nnx.Param)
    gradient = nnx.grad(lambda model: (model(np.ones((2, 3))) ** 2).mean())
    theirs.update(model, gradient(model))
    states = {"model": nnx.state(model), "opt": nnx.state(theirs)}
    orbax.PyTreeCheckpointer().save(tmp_path / "d", states)
    theirs.update(model, gradient(model))

    other = nnx.Linear(3, 1, rngs=nnx.Rngs(5))
    opt = bo.optim.AdamW(0.1, other, dialect="optax")
    checkpoint.convert(tmp_path / "d", tmp_path / "net.bopt")
    checkpoint.convert(tmp_path / "d", tmp_path / "opt.bopt", optimizer="opt")
    checkpoint.restore(
        tmp_path / "net.bopt", {"model": bo.attach(other)}, only=["model"]
    )
    checkpoint.restore(
        tmp_path / "opt.bopt", {"opt": opt}, only=["opt.step", "opt.slots"]
    )
    opt.update(gradient(other))

    np.testing.assert_allclose(other.kernel[...], model.kernel[...], rtol=1e-6)


@pytest.mark.hosts("orbax")
def test_a_folder_of_orbax_is_read(tmp_path):
    from orbax import checkpoint as orbax

    orbax.PyTreeCheckpointer().save(tmp_path / "d", {"a": {"W": W}, "n": np.int32(3)})
    loaded = checkpoint.load_foreign(tmp_path / "d")
    assert same(loaded["a"], {"W": W}) and loaded["n"] == 3


@pytest.mark.hosts("optax")
@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_converted_optimizer_goes_on_with_the_numbers_of_optax(tmp_path, kind):
    import jax
    import optax

    from brainopt import Node, TrainVar
    from brainopt.optim import Adam, AdamW

    rng = np.random.default_rng(20251)
    grads = [jnp.asarray(rng.normal(size=(2, 3)), "float32") for _ in range(10)]
    theirs = {"adam": optax.adam(0.01), "adamw": optax.adamw(0.01, weight_decay=0.1)}
    rule, params = theirs[kind], {"W": jnp.asarray(W)}
    state = rule.init(params)

    def step(params, state, grad):
        updates, state = rule.update({"W": grad}, state, params)
        return optax.apply_updates(params, updates), state

    for grad in grads[:5]:
        params, state = step(params, state, grad)
    fields = state[0]._asdict()
    (tmp_path / "f").write_bytes(packed(jax.tree.map(np.asarray, {"0": fields})))
    node = Node()
    node.W = TrainVar(params["W"])
    settings = {"adam": {}, "adamw": {"weight_decay": 0.1}}[kind]
    opt = {"adam": Adam, "adamw": AdamW}[kind](0.01, node, **settings)
    adam = checkpoint.optimizer_state(checkpoint.load_foreign(tmp_path / "f"))
    checkpoint.save(tmp_path / "g", {"opt": adam})
    checkpoint.restore(tmp_path / "g", {"opt": opt}, only=["opt.step", "opt.slots"])
    for grad in grads[5:]:
        params, state = step(params, state, grad)
        opt.update({"W": grad})
    np.testing.assert_allclose(node.W.value, params["W"], rtol=2e-6, atol=1e-6)
    assert opt.step.value == 10


def test_chunks_of_several_dtypes_are_refused(tmp_path):
    chunks = {"0": np.ones(2, "f4"), "1": np.ones(2, "i4")}
    table = {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": chunks}
    (tmp_path / "f").write_bytes(packed({"W": table}))
    with pytest.raises(CheckpointCorruptError, match="several dtypes"):
        checkpoint.load_foreign(tmp_path / "f")


def test_an_array_in_chunks_costs_its_file_and_itself(tmp_path):
    chunks = {str(i): np.zeros(1 << 22, "u1") for i in range(4)}
    table = {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 24}}
    (tmp_path / "f").write_bytes(packed({"W": table | {"chunks": chunks}}))
    tracemalloc.start()
    checkpoint.load_foreign(tmp_path / "f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * (1 << 24)


@pytest.mark.parametrize(
    "tree", [{"a": {"a.b": 1}, "a.b": 2}, {"a.b": 2, "a": {"b": 1}}]
)
def test_convert_drops_none_of_two_values_of_one_name(tmp_path, tree):
    checkpoint.save(tmp_path / "f", tree)
    with pytest.raises(PathError, match=r"a\.b"):
        checkpoint.convert(tmp_path / "f", tmp_path / "g", rename={"z": "y"})
    assert not (tmp_path / "g").exists()
