# SPDX-License-Identifier: Apache-2.0
"""A Node is saved to a file and loaded from it."""

import jax
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.checkpoint import Stateful
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
)

from .nets import NET_VARS, Cell, Net


def _changed():
    net = Net()
    net.gain = [5.0]
    net.layers[1].W = [7.0, 8.0, 9.0]
    net.rng.normal()
    return net


def _data(net):
    return {
        key: np.asarray(jax.random.key_data(v) if key == "rng" else v).tolist()
        for key, v in net.state_dict().items()
    }


def test_a_node_is_what_checkpoints_ask_for():
    assert isinstance(Net(), Stateful)
    assert Net()._checkpoint_meta() == {"class": "Net"}


@pytest.mark.parametrize("name", ["run.ckpt", "run.bp", "run"])
def test_what_is_saved_is_loaded(tmp_path, name):
    net, other = _changed(), Net()

    net.save_states(tmp_path / name)
    result = other.load_states(str(tmp_path / name))

    assert _data(other) == _data(net) and _data(other) != _data(Net())
    assert not result and result.missing == []


@pytest.mark.parametrize("method", ["relative", "absolute"])
def test_some_variables_may_be_saved(tmp_path, method):
    net, path = _changed(), tmp_path / "weights"

    net.save_states(path, net.train_vars(method))
    with pytest.raises(CheckpointMismatchError, match="rng: missing"):
        net.load_states(path)
    net.gain = [0.0]
    result = net.load_states(path, strict=False)

    assert net.gain.value.tolist() == [5.0]
    assert result.missing == [p for p in NET_VARS if p[-1] == "V" or p == "rng"]


def test_a_pytree_is_saved_leaf_by_leaf(tmp_path):
    node, other = bo.Node(), bo.Node()
    node.p, other.p = bo.Variable({"a": [1.0]}), bo.Variable({"a": [2.0]})

    node.save_states(tmp_path / "x", {"p": node.p})
    other.load_states(tmp_path / "x")

    assert other.p.value["a"].tolist() == [1.0]


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    big, small = Cell(3), Cell(2)
    big.save_states(tmp_path / "x")

    with pytest.raises(CheckpointMismatchError, match="W: stored"):
        small.load_states(tmp_path / "x")
    with pytest.raises(CheckpointMismatchError, match="'Cell'"):
        Net().load_states(tmp_path / "x")

    assert small.W.value.tolist() == [0.0, 1.0]


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"not a checkpoint")

    with pytest.raises(CheckpointCorruptError):
        Cell().load_states(tmp_path / "x")


def test_cast_converts(tmp_path):
    node = bo.Node()
    node.W = bo.Variable([1.0, 2.0], "float16")
    node.save_states(tmp_path / "x")
    other = bo.Node()
    other.W = bo.Variable([0.0, 0.0])

    with pytest.raises(CheckpointMismatchError, match="float16"):
        other.load_states(tmp_path / "x")
    other.load_states(tmp_path / "x", cast=True)

    assert other.W.value.tolist() == [1.0, 2.0] and other.W.dtype == "float32"


def test_verbose_says_what_was_loaded(tmp_path, capsys):
    Cell().save_states(tmp_path / "x", [])
    Cell().save_states(tmp_path / "y")

    Cell().load_states(tmp_path / "y", True)
    Cell().load_states(tmp_path / "x", verbose=True, strict=False)

    said = capsys.readouterr().out.replace(str(tmp_path), "")
    assert said == "/y: loaded 2 arrays\n/x: loaded 0 arrays\nmissing: W\nmissing: V\n"


def test_a_moved_node_stays_where_it_is(tmp_path):
    _changed().save_states(tmp_path / "x")
    net = Net().to("cpu:1")

    net.load_states(tmp_path / "x")

    assert {v.devices().pop().id for v in net.state_dict().values()} == {1}
    assert net.gain.value.tolist() == [5.0]


def test_a_variable_without_a_node_is_refused_with_the_mend(tmp_path):
    with pytest.raises(CheckpointError, match=r"  rng: .*\nhelp: .*of a Node"):
        checkpoint.save(tmp_path / "f", {"rng": bo.RandomState(0)})
