# SPDX-License-Identifier: Apache-2.0
"""A file knows the arrays of a model that are no Variables, and tells others apart."""

import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint


class Reservoir(bo.Node):
    """A trained readout of fixed weights, in every place where arrays are kept."""

    def __init__(self, seed):
        draw = np.random.RandomState(seed).rand
        self.readout = bo.TrainVar(np.ones(2, np.float32))
        self.fixed = draw(2, 2).astype(np.float32)
        self.parts = {"masks": [bo.Node(), draw(3) > 0.5]}
        self.parts["masks"][0].gain = draw(2)
        self.scale = np.array(draw())  # a single number is a setting
        self.key = np.array([0, seed], np.uint32)  # and this may be a random key


FIXED = ["fixed", "parts.masks.1", "parts.masks.0.gain"]


def _manager(path, nodes, **options):
    checkpoint.Manager(path.parent).restore(nodes, **options)


DOORS = {
    "restore": checkpoint.restore,
    ".npz": checkpoint.restore,
    ".safetensors": checkpoint.restore,
    "in a dict": lambda path, node, **o: checkpoint.restore(path, {"n": node}, **o),
    "load_states": lambda path, node, **options: node.load_states(path, **options),
    "Manager": _manager,
}


def _save(door, path, node):
    if door == "Manager":
        with checkpoint.Manager(path.parent) as manager:
            manager.save(1, node)
    elif door == "in a dict":
        checkpoint.save(path, {"n": node})
    else:
        node.save_states(path)


def _saved_and_other(door, folder):
    """Save a model; return the file, and one of another seed without a readout."""
    suffix = door if door.startswith(".") else ".bopt"
    path, other = folder / f"run{suffix}", Reservoir(3)
    _save(door, path, Reservoir(0))
    other.readout.value = np.zeros(2, np.float32)
    return path, other


@pytest.mark.parametrize("door", DOORS)
def test_constants_of_another_seed_are_refused_by_name(door, tmp_path):
    path, other = _saved_and_other(door, tmp_path)

    with pytest.raises(bo.errors.CheckpointMismatchError) as caught:
        DOORS[door](path, other)

    under = "n." if door == "in a dict" else ""
    told = [line.partition(":")[0] for line in caught.value.differences]
    assert told == [under + name for name in FIXED]
    assert other.readout.value.tolist() == [0, 0]


@pytest.mark.parametrize("door", DOORS)
def test_without_strict_they_are_warned_of_and_the_rest_is_restored(door, tmp_path):
    path, other = _saved_and_other(door, tmp_path)

    with pytest.warns(bo.errors.CheckpointWarning) as caught:
        DOORS[door](path, other, strict=False)

    assert all(name in str(caught[0].message) for name in FIXED)
    assert other.readout.value.tolist() == [1, 1]


@pytest.mark.parametrize("door", DOORS)
def test_the_same_seed_restores_without_a_word(door, tmp_path):
    path = tmp_path / f"run{door if door.startswith('.') else '.bopt'}"
    _save(door, path, Reservoir(0))

    DOORS[door](path, Reservoir(0))


@pytest.mark.parametrize("option", [{"only": "readout"}, {"skip": FIXED}])
def test_a_choice_of_paths_is_a_choice_of_constants(option, tmp_path):
    Reservoir(0).save_states(tmp_path / "run.bopt")

    checkpoint.restore(tmp_path / "run.bopt", Reservoir(3), **option)


def test_another_shape_is_said(tmp_path):
    saved, other = bo.Node(), bo.Node()
    saved.mask, other.mask = np.ones(2), np.ones((2, 1), bool)
    checkpoint.save(tmp_path / "run.bopt", saved)

    text = r"mask: the constant bool \(2, 1\) was saved with float64 \(2,\)"
    with pytest.raises(bo.errors.CheckpointMismatchError, match=text):
        checkpoint.restore(tmp_path / "run.bopt", other)


def test_a_change_in_place_is_seen(tmp_path):
    node = Reservoir(0)
    node.save_states(tmp_path / "run.bopt")
    node.fixed[0, 0] += 1

    with pytest.raises(bo.errors.CheckpointMismatchError, match="fixed"):
        node.load_states(tmp_path / "run.bopt")


def test_a_summary_lists_constants_apart_from_the_totals():
    summary = bo.summary(Reservoir(0))

    assert [row.path for row in summary.constants] == FIXED
    assert [row.path for row in summary.rows] == ["readout"]
    assert summary.nbytes == 8
    assert str(summary).endswith(
        "total: 2 elements, 8 bytes\nconstants: 9 elements, 35 bytes"
    )
