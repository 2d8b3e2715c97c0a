# SPDX-License-Identifier: Apache-2.0
"""Folders written by Orbax: all that a file holds, read by all that reads files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt import checkpoint
from brainopt.__main__ import main
from brainopt.errors import CheckpointCorruptError, CheckpointError
from tests.checkpoint.trees import same
from tests.sharding.nets import Net, data, mesh_of, step_of

pytestmark = pytest.mark.hosts("orbax")

TREES = {
    "plain": {"epoch": 3, "name": "run", "none": None, "list": [1, (2.5, True)]},
    "numpy": {"a": np.arange(6.0).reshape(2, 3), "s": np.float32(2), "e": np.zeros(0)},
    "jax": {
        name: jnp.ones((2, 3), name) for name in ("f4", "bfloat16", "int8", "c8", "?")
    },
    "scalars": {"x": jnp.float32(1.5), "empty": jnp.zeros((0, 3)), "long": "x" * 9999},
    "odd names": {"a.b/c": jnp.ones(2), "ü ~": jnp.zeros(1), "": jnp.ones(3)},
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_what_was_saved_is_loaded(tree, tmp_path):
    checkpoint.save(tmp_path / "d", tree, backend="orbax")

    # The same as brainopt's own file gives, dtypes and the order of keys included.
    expected = checkpoint.loads(checkpoint.dumps(tree))
    assert same(checkpoint.load(tmp_path / "d"), expected)
    checkpoint.verify(tmp_path / "d")


def trained(steps, mesh=None, **rules):
    net = bo.Node()
    net.net, net.random = Net(), bo.RandomState(5)
    if mesh is not None:
        bo.sharding.shard(net, mesh, **rules)
    opt = bo.optim.AdamW(1e-2, net.net)
    step = step_of(net.net, opt)
    return net, opt, [float(step(*data())) for _ in range(steps)]


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_run_goes_on_on_any_mesh(tmp_path, count):
    net, opt, _ = trained(2, mesh_of(8), fsdp="data", min_size=0)
    nodes = {"net": net, "opt": opt, "epoch": 2}
    checkpoint.save(tmp_path / "d", nodes, backend="orbax")
    expected = [float(step_of(net.net, opt)(*data())) for _ in range(2)]

    mesh = mesh_of(count, devices=jax.devices()[:count])
    other, again, _ = trained(1, mesh, fsdp="data", min_size=0)
    plain = checkpoint.restore(tmp_path / "d", {"net": other, "opt": again})
    found = [float(step_of(other.net, again)(*data())) for _ in range(2)]

    assert plain == {"epoch": 2} and int(again.step) == 4
    assert found == pytest.approx(expected, abs=2e-7)
    assert other.net.l1.W.value.sharding.spec == P(None, "data")
    np.testing.assert_array_equal(other.random.uniform(3), net.random.uniform(3))


def test_an_error_of_a_restore_changes_nothing(tmp_path):
    checkpoint.save(tmp_path / "d", {"net": Net()}, backend="orbax")
    other = bo.Node()
    other.W = bo.TrainVar(jnp.ones(3))

    with pytest.raises(bo.errors.CheckpointMismatchError, match=r"l1\.W"):
        checkpoint.restore(tmp_path / "d", {"net": other})
    assert other.W.value.tolist() == [1, 1, 1]


def test_a_second_save_takes_the_place_of_the_first(tmp_path):
    for epoch in (1, 2):
        checkpoint.save(tmp_path / "d", {"epoch": epoch}, backend="orbax")
    assert checkpoint.load(tmp_path / "d") == {"epoch": 2}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.txt").write_text("kept")

    with pytest.raises(CheckpointError, match="no folder of Orbax"):
        checkpoint.save(tmp_path / "results", {"epoch": 1}, backend="orbax")
    assert (tmp_path / "results" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "options",
    [{"verify": True}, {"digest": "sha256"}, {"key": b"k"}, {"sharded": True}],
)
def test_what_orbax_does_not_keep_is_refused(options, tmp_path):
    with pytest.raises(ValueError, match="backend='orbax' takes no"):
        checkpoint.save(tmp_path / "d", {}, backend="orbax", **options)
    assert not (tmp_path / "d").exists()


def test_the_commands_take_the_folder(tmp_path, capsys):
    path = str(tmp_path / "d")
    checkpoint.save(path, {"net": Net(), "epoch": 3}, backend="orbax")

    assert main(["verify", path]) == main(["inspect", path]) == 0
    assert "net.l1.W" in capsys.readouterr().out
    assert main(["convert", path, str(tmp_path / "f.bopt")]) == 0
    assert main(["diff", path, str(tmp_path / "f.bopt")]) == 0


def test_orbax_itself_reads_the_arrays(tmp_path):
    from orbax import checkpoint as orbax

    net = Net()
    checkpoint.save(tmp_path / "d", {"net": net}, backend="orbax")
    found = orbax.PyTreeCheckpointer().restore(tmp_path / "d")["arrays"]
    np.testing.assert_array_equal(found["net.l1.W"], net.l1.W.value)


def test_a_damaged_tree_is_an_error(tmp_path):
    checkpoint.save(tmp_path / "d", {"a": jnp.ones(3), "b": "x" * 999}, backend="orbax")
    for file in (tmp_path / "d").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-20])
    for act in (checkpoint.load, checkpoint.verify, checkpoint.inspect):
        with pytest.raises(CheckpointCorruptError, match="Orbax could not read"):
            act(tmp_path / "d")
