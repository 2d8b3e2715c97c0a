# SPDX-License-Identifier: Apache-2.0
"""A restore fits wholly or changes nothing: R11 and R12."""

import re

import jax
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.errors import CheckpointMismatchError, PathError
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

W, B = np.arange(6, dtype="f4").reshape(2, 3), np.arange(3, dtype="f4")


def net(**changed):
    return FakeNode({"layers.0.W": W, "layers.0.b": B} | changed)


def opt(lr=0.1, **changed):
    slots = {"step": np.asarray(9, "i4"), "m.layers.0.W": W * 2, "m.layers.0.b": B * 2}
    return FakeNode(slots | changed, lr=lr, schedule={"kind": "cosine", "steps": 10})


def zeroed(node):
    """The same node with other values."""
    for variable in node.variables.values():
        variable.value = np.full_like(variable.value, 77)
    return node


@pytest.fixture
def path(tmp_path):
    """A file of a net, an optimizer and an epoch."""
    checkpoint.save(tmp_path / "f", {"net": net(), "opt": opt(), "epoch": 3})
    return tmp_path / "f"


def test_all_nodes_and_plain_values_come_back(path):
    nodes = {"net": zeroed(net()), "opt": zeroed(opt()), "epoch": 0}
    assert checkpoint.restore(path, nodes) == {"epoch": 3}
    assert same(net().state_dict(), nodes["net"].state_dict())
    assert same(opt().state_dict(), nodes["opt"].state_dict())


def test_a_bare_node_comes_back(tmp_path):
    checkpoint.save(tmp_path / "f", net())
    node = zeroed(net())
    assert checkpoint.restore(tmp_path / "f", node) == {}
    assert same(net().state_dict(), node.state_dict())


def test_a_default_stands_where_the_file_has_no_value(path):
    found = checkpoint.restore(path, {"net": net(), "opt": opt(), "best": 0.5})
    assert found == {"epoch": 3, "best": 0.5}


def test_plain_arrays_and_keys_come_back_beside_nodes(tmp_path):
    tree = {"net": net(), "seen": np.arange(3), "key": jax.random.key(1), "d": {"n": W}}
    checkpoint.save(tmp_path / "f", tree)
    defaults = {"seen": np.zeros(3), "d": {}, "more": W, "e": {}}
    found = checkpoint.restore(tmp_path / "f", {"net": net()} | defaults)
    expected = {"seen": tree["seen"], "key": tree["key"], "d": {"n": W}}
    assert found.pop("e") == {} and found.pop("more") is W
    assert all(same(found[name], value) for name, value in expected.items())


def test_nodes_in_nested_containers_come_back(tmp_path):
    nodes = {"a": {"nets": [net(), net(**{"layers.0.b": B + 1})]}, "n": {"x": 1}}
    checkpoint.save(tmp_path / "f", nodes)
    own = {"a": {"nets": [zeroed(net()), zeroed(net())]}}
    assert checkpoint.restore(tmp_path / "f", own) == {"n": {"x": 1}}
    assert same(own["a"]["nets"][1].state_dict()["layers.0.b"], B + 1)


def test_a_plain_state_dict_fits_a_node(tmp_path):
    checkpoint.save(tmp_path / "f", {"net": net().state_dict()})
    node = zeroed(net())
    checkpoint.restore(tmp_path / "f", {"net": node})
    assert same(net().state_dict(), node.state_dict())


F64 = W.astype("f8")
MISFITS = {
    "shape": ({"layers.0.W": W.T}, "layers.0.W: stored (2, 3) float32"),
    "more axes": ({"layers.0.W": W[None]}, "layers.0.W: stored (2, 3) float32"),
    "broadcastable": ({"layers.0.b": B[:1]}, "layers.0.b: stored (3,) float32"),
    "scalar": ({"layers.0.b": B[0]}, "layers.0.b: stored (3,) float32"),
    "wider dtype": ({"layers.0.W": F64}, "layers.0.W: stored (2, 3) float32"),
    "narrower dtype": ({"layers.0.W": W.astype("f2")}, "variable (2, 3) float16"),
    "other kind": ({"layers.0.W": W.astype("i4")}, "variable (2, 3) int32"),
    "missing": ({"layers.1.W": W}, "layers.1.W: missing from the file"),
    "renamed": ({"layer.0.b": B}, "layer.0.b: missing from the file"),
}


@pytest.mark.parametrize("which", ["net", "opt"])
@pytest.mark.parametrize("case", MISFITS)
def test_a_node_that_does_not_fit_is_refused(path, case, which):
    changed, said = MISFITS[case]
    nodes = {"net": net(), "opt": opt()}
    if which == "opt":
        changed = {f"m.{name}": value for name, value in changed.items()}
    nodes[which] = {"net": net, "opt": opt}[which](**changed)
    with pytest.raises(CheckpointMismatchError) as refusal:
        checkpoint.restore(path, nodes)
    assert said in str(refusal.value)


def without(node, name):
    del node.variables[name]
    return node


OTHERS = {
    "unexpected": lambda: {"net": without(net(), "layers.0.b"), "opt": opt()},
    "no optimizer": lambda: {"net": net()},
    "no net in file": lambda: {"network": net(), "opt": opt()},
    "bare node": net,
    "other class": lambda: {"net": FakeNode({}, kind=1), "opt": opt()},
    "hyperparameter": lambda: {"net": net(), "opt": opt(lr=0.2)},
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_structure_is_refused(path, case):
    with pytest.raises(CheckpointMismatchError):
        checkpoint.restore(path, OTHERS[case]())


def test_every_difference_is_told_at_once(path):
    wrong = {
        "net": without(net(**{"layers.0.W": W.T, "extra": B}), "layers.0.b"),
        "opt": without(opt(lr=0.2, step=np.asarray(0.0)), "m.layers.0.b"),
    }
    with pytest.raises(CheckpointMismatchError) as refusal:
        checkpoint.restore(path, wrong)
    assert refusal.value.differences == (
        "net.layers.0.W: stored (2, 3) float32, variable (3, 2) float32",
        "net.extra: missing from the file",
        "net.layers.0.b: in the file, and not in the node",
        "opt.lr: stored 0.1, this one has 0.2",
        "opt.step: stored () int32, variable () float64",
        "opt.m.layers.0.b: in the file, and not in the node",
    )


@pytest.mark.parametrize("entry", range(5))
def test_after_a_mismatch_at_any_entry_nothing_has_changed(path, entry):
    nodes = {"net": zeroed(net()), "opt": zeroed(opt())}
    variables = [v for node in nodes.values() for v in node.variables.values()]
    variables[entry].value = np.zeros((9, 9), "f4")
    before = [variable.value for variable in variables]
    with pytest.raises(CheckpointMismatchError):
        checkpoint.restore(path, nodes)
    assert all(v.value is old for v, old in zip(variables, before, strict=True))


def test_a_damaged_file_changes_nothing(path):
    data = bytearray(path.read_bytes())
    data[64] ^= 1
    path.write_bytes(data)
    node = zeroed(net())
    before = node.state_dict()
    with pytest.raises(ValueError, match="intact"):
        checkpoint.restore(path, {"net": node}, skip="opt")
    assert all(node.state_dict()[k] is v for k, v in before.items())


def test_strict_false_takes_what_fits(path):
    node = without(zeroed(net(extra=B)), "layers.0.b")
    checkpoint.restore(path, {"net": node, "opt": opt(lr=5.0)}, strict=False)
    assert same(node.state_dict()["layers.0.W"], W)
    assert (node.state_dict()["extra"] == 77).all()


def test_strict_false_still_refuses_a_shape(path):
    with pytest.raises(CheckpointMismatchError, match="stored"):
        checkpoint.restore(path, {"net": net(**{"layers.0.W": W.T})}, strict=False)


def test_cast_allows_another_dtype(path):
    node = zeroed(net(**{"layers.0.W": W.astype("f8")}))
    checkpoint.restore(path, {"net": node}, skip="opt", cast=True)
    assert same(node.state_dict()["layers.0.W"], W.astype("f8"))


def test_only_restores_what_its_globs_name(path):
    nodes = {"net": zeroed(net()), "opt": zeroed(opt())}
    checkpoint.restore(path, nodes, only=["net.*.W", "opt.step"])
    assert same(nodes["net"].state_dict()["layers.0.W"], W)
    assert (nodes["net"].state_dict()["layers.0.b"] == 77).all()
    assert nodes["opt"].state_dict()["step"] == 9
    assert (nodes["opt"].state_dict()["m.layers.0.W"] == 77).all()


def test_skip_leaves_what_its_globs_name(path):
    node = zeroed(net(**{"layers.0.b": np.zeros(8, "f4")}))
    checkpoint.restore(path, {"net": node}, skip=["opt", "*.b"])
    assert same(node.state_dict()["layers.0.W"], W)
    assert (node.state_dict()["layers.0.b"] == 77).all()


@pytest.mark.parametrize("option", ["only", "skip"])
def test_a_glob_that_matches_nothing_is_refused(path, option):
    nodes = {"net": zeroed(net()), "opt": zeroed(opt())}
    globs = ["net", "ned.*", "opt.stepp"]
    with pytest.raises(CheckpointMismatchError) as refused:
        checkpoint.restore(path, nodes, **{option: globs})
    expected = tuple(f"{option}={glob!r} matches nothing" for glob in globs[1:])
    assert refused.value.differences == expected
    assert (nodes["net"].state_dict()["layers.0.W"] == 77).all()
    checkpoint.restore(path, nodes, **{option: globs}, strict=False)


@pytest.mark.parametrize("option", ["only", "skip"])
def test_globs_may_name_what_stands_on_one_side_alone(tmp_path, option):
    saved = {"net": net(), "old": net(), "epoch": 3, "log": {"loss": 0.5}}
    checkpoint.save(tmp_path / "f", saved)
    nodes = {"net": zeroed(net(**{"layers.0.c": W})), "epoch": 0}
    globs = ["old", "epoch", "log.loss", "net.layers.0.c"]
    if option == "skip":
        assert checkpoint.restore(tmp_path / "f", nodes, skip=globs)["epoch"] == 3
        assert same(nodes["net"].state_dict()["layers.0.W"], W)
    else:
        with pytest.raises(CheckpointMismatchError) as refused:
            checkpoint.restore(tmp_path / "f", nodes, only=globs)
        assert "matches nothing" not in str(refused.value)


@pytest.mark.parametrize(
    "rename",
    [
        {"net.layers.0": "net.stem"},
        [(r"re:layers\.0", "stem")],
        (r"re:layers\.\d", "stem"),
        {r"re:layers\.0\.(\w)": r"stem.\1"},
        [(re.compile("LAYERS.0", re.IGNORECASE), "stem")],
        lambda path: path.replace("layers.0", "stem"),
    ],
)
def test_rename_gives_paths_their_new_names(path, rename):
    node = zeroed(FakeNode({"stem.W": W, "stem.b": B}))
    checkpoint.restore(path, {"net": node}, skip="opt", rename=rename)
    assert same(node.state_dict()["stem.W"], W)


@pytest.mark.parametrize(
    "rename",
    [["ab"], ["a", "b", "c"], [("a", 1)], {"*.W": "V"}, {1: "a"}, {"re:(": "a"}],
)
def test_what_is_no_pair_is_no_rename(path, rename):
    with pytest.raises(
        PathError, match=r"rename takes|has no one new name|is no pattern"
    ):
        checkpoint.restore(path, {"net": net()}, rename=rename)


def test_rename_moves_a_whole_node(path):
    node = zeroed(net())
    checkpoint.restore(path, {"model": node}, skip="opt", rename={"net": "model"})
    assert same(node.state_dict()["layers.0.b"], B)


def test_two_paths_renamed_to_one_are_refused(path):
    with pytest.raises(CheckpointMismatchError, match=r"both net\.layers\.0\.W and"):
        rename = [(r"re:layers\.0\.b", "layers.0.W")]
        checkpoint.restore(path, {"net": net(), "opt": opt()}, rename=rename)


def test_two_nodes_under_one_path_are_refused(tmp_path):
    nodes = {"a.b": net(), "a": {"b": net()}}
    checkpoint.save(tmp_path / "f", nodes)
    with pytest.raises(CheckpointMismatchError, match=r"a\.b: two nodes"):
        checkpoint.restore(tmp_path / "f", nodes)


def test_a_rename_that_gives_no_name_is_told(path):
    with pytest.raises(PathError, match="rename gave None for"):
        checkpoint.restore(path, {"net": net()}, rename=lambda name: None)


@pytest.mark.parametrize(
    "stored, own, said",
    [
        ({"a.w": "mV"}, {"a.w": "V"}, r"net\.a\.w: stored in mV, not in V"),
        (8, 9, r"net\.units: stored 8, this one has 9"),
        (8, {"a.w": "V"}, r"net\.units: stored 8, this one has"),
    ],
)
def test_other_units_are_refused(tmp_path, stored, own, said):
    node = FakeNode({"a.w": W}, units=stored)
    checkpoint.save(tmp_path / "f", {"net": node})

    with pytest.raises(CheckpointMismatchError, match=said):
        checkpoint.restore(tmp_path / "f", {"net": FakeNode({"a.w": W}, units=own)})


def test_another_unit_is_refused_even_if_not_strict(tmp_path):
    checkpoint.save(tmp_path / "f", FakeNode({"w": W}, units={"w": "mV"}))
    node = FakeNode({"w": W}, units={"w": "V"})

    with pytest.raises(CheckpointMismatchError, match="w: stored in mV, not in V"):
        checkpoint.restore(tmp_path / "f", node, strict=False)
    checkpoint.restore(tmp_path / "f", node, strict=False, skip="w")
