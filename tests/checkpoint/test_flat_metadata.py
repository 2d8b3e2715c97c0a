# SPDX-License-Identifier: Apache-2.0
"""Files of other formats keep what must be equal when a node is restored."""

import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.checkpoint.interop._formats import metas_of_text
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
)

SUFFIXES = (".npz", ".safetensors")
OTHERS = {
    "class": lambda w: bo.optim.Adam(0.1, w),
    "maximize": lambda w: bo.optim.AdamW(0.1, w, maximize=True),
    "nesterov": lambda w: bo.optim.AdamW(0.1, w, nesterov=True),
    "amsgrad": lambda w: bo.optim.AdamW(0.1, w, amsgrad=True),
}


class Fixed(bo.Node):
    """One trained vector, and fixed ones that are no Variables."""

    def __init__(self, count=1, seed=0, trained=1):
        draw = np.random.default_rng(seed).normal
        self.trained = {f"w{i}": bo.TrainVar(np.ones(3, "f4")) for i in range(trained)}
        self.fixed = {
            f"a fixed vector with a long name {i}": draw(size=2) for i in range(count)
        }


def _weights():
    return {"w": bo.TrainVar(np.ones(3, "f4"))}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"f{request.param}"


@pytest.mark.parametrize("what", OTHERS)
def test_an_optimizer_of_other_mathematics_is_refused_by_name(path, what):
    checkpoint.save(path, {"opt": bo.optim.AdamW(0.1, _weights())})
    other = OTHERS[what](_weights())
    with pytest.raises(CheckpointMismatchError, match=rf"opt.*\b{what}"):
        checkpoint.restore(path, {"opt": other})
    with pytest.raises(CheckpointMismatchError, match=rf"\b{what}"):
        bo.optim.AdamW(0.1, _weights()).save_states(path)
        other.load_states(path)


def test_an_equal_one_is_restored(path):
    opt = bo.optim.AdamW(0.1, _weights(), maximize=True)
    opt.update({"w": np.ones(3, "f4")})
    for tree in (lambda x: x, lambda x: {"opt": x}, lambda x: {"a": {"b": x}}):
        new = bo.optim.AdamW(0.1, _weights(), maximize=True)
        checkpoint.save(path, tree(opt))
        checkpoint.restore(path, tree(new))
        assert new.step.value == 1


def test_a_part_of_a_larger_node_takes_what_was_saved_alone(path):
    part, whole = Fixed(), bo.Node()
    whole.part = Fixed()
    part.trained["w0"].value = np.zeros(3, "f4")
    checkpoint.save(path, {"net": {"part": part}})
    checkpoint.restore(path, {"net": whole})
    assert not whole.part.trained["w0"].value.any()
    whole.part = Fixed(seed=1)
    with pytest.raises(CheckpointMismatchError, match="fixed vector with a long"):
        checkpoint.restore(path, {"net": {"part": whole.part}})


def test_readers_of_others_see_arrays_alone(path):
    checkpoint.save(path, {"net": Fixed(), "opt": bo.optim.Adam(0.1, _weights())})
    if path.suffix == ".npz":
        with np.load(path) as file:
            names = {name: file[name].shape for name in file.files}
    else:
        flax_like = pytest.importorskip("safetensors.numpy")
        names = {k: v.shape for k, v in flax_like.load_file(path).items()}
    assert names.keys() == checkpoint.load(path).keys()
    assert names["net.trained.w0"] == (3,)


def test_metadata_of_any_length_go_along(path):
    # One comment of a zip holds 65,000 bytes; this is more than three.
    nodes = {"net": Fixed(2500, trained=5)}
    checkpoint.save(path, nodes)
    checkpoint.restore(path, nodes)
    with pytest.raises(CheckpointMismatchError) as caught:
        checkpoint.restore(path, {"net": Fixed(2500, seed=1, trained=5)})
    assert len(caught.value.differences) == 2500


def test_more_than_a_zip_has_room_for_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="metadata of nodes of"):
        checkpoint.save(tmp_path / "f.npz", {"net": Fixed(2500)})
    assert not (tmp_path / "f.npz").exists()


def test_every_flipped_byte_of_them_is_seen(path):
    checkpoint.save(path, {"net": Fixed()})
    data = bytearray(path.read_bytes())
    # The text begins as every file of brainopt's own does.
    start = (
        data.index(b"iUJPUFQ") if b"iUJPUFQ" in data else data.index(b"brainopt") + 11
    )
    for at in range(start, start + 300, 7):
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointCorruptError):
            checkpoint.load(path)


@pytest.mark.parametrize("text", ["AAAA", "?", "a", "\0"])
def test_a_text_of_another_kind_is_refused(text):
    with pytest.raises(ValueError, match="metadata of its nodes are damaged"):
        metas_of_text(text)


def test_tools_know_them(path, tmp_path):
    one, two = (
        bo.optim.AdamW(0.1, _weights()),
        bo.optim.AdamW(0.1, _weights(), maximize=True),
    )
    checkpoint.save(path, {"opt": one})
    assert checkpoint.inspect(path).nodes["opt"]["class"] == "AdamW"
    other = tmp_path / f"other{path.suffix}"
    checkpoint.save(other, {"opt": two})
    assert checkpoint.diff(path, other) == ["opt.maximize: False and True"]
    checkpoint.convert(path, tmp_path / "own.bopt")
    with pytest.raises(CheckpointMismatchError, match="maximize"):
        checkpoint.restore(tmp_path / "own.bopt", {"opt": two})
    checkpoint.restore(tmp_path / "own.bopt", {"opt": one})


def test_files_of_others_are_restored_without_them(path):
    net = Fixed(seed=1)
    checkpoint.save(path, {"trained.w0": np.zeros(3, "f4")})
    checkpoint.restore(path, net)
    assert not net.trained["w0"].value.any()
