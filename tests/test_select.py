# SPDX-License-Identifier: Apache-2.0
"""One grammar chooses variables by name: every place takes every kind of choice."""

import json
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.__main__ import main
from brainopt._select import Choice, Renaming
from brainopt.errors import CheckpointMismatchError, PathError

PATHS = ("enc.W", "enc.b", "layers.0.W", "layers.0.b", "layers.1.W", "out")


def model():
    """Six variables: three matrices and three vectors, all zeros."""
    net = bo.Node()
    net.enc, net.layers = bo.Node(), [bo.Node(), bo.Node()]
    net.enc.W, net.enc.b = bo.TrainVar(jnp.zeros((2, 2))), bo.TrainVar(jnp.zeros(2))
    net.layers[0].W = bo.TrainVar(jnp.zeros((2, 2)))
    net.layers[0].b = bo.TrainVar(jnp.zeros(2))
    net.layers[1].W = bo.TrainVar(jnp.zeros((2, 2)))
    net.out = bo.TrainVar(jnp.zeros(3))
    return net


MATRICES = {"enc.W", "layers.0.W", "layers.1.W"}
VECTORS = set(PATHS) - MATRICES
KINDS = {
    "path": ("out", {"out"}),
    "path and below": ("enc", {"enc.W", "enc.b"}),
    "glob": ("*.b", {"enc.b", "layers.0.b"}),
    "glob and below": ("layers.?", {"layers.0.W", "layers.0.b", "layers.1.W"}),
    "re": (r"re:layers\.\d\.W", {"layers.0.W", "layers.1.W"}),
    "pattern": (re.compile("ENC.*", re.I), {"enc.W", "enc.b"}),
    "matrices": ("matrices", MATRICES),
    "vectors": ("vectors", VECTORS),
    "callable": (lambda path, value: "0" in path and value.ndim > 1, {"layers.0.W"}),
    "nested tree": (
        {"enc": {"W": True, "b": False}, "layers": [True, False], "out": False},
        {"enc.W", "layers.0.W", "layers.0.b"},
    ),
    "flat tree": (
        {"enc": True, "enc.b": False, "layers": False, "out": True},
        {"enc.W", "out"},
    ),
    "list": (
        ["out", "re:.*1.*", lambda p, _: p == "enc.b"],
        {"enc.b", "layers.1.W", "out"},
    ),
    "all": (True, set(PATHS)),
}


def frozen(where, tmp_path):
    return set(bo.optim.SGD(0.1, model()).freeze(where))


def thawed(where, tmp_path):
    opt = bo.optim.SGD(0.1, model())
    return set(opt.freeze()) - set(opt.unfreeze(where))


def moved(net):
    return {path for path, v in net.vars().items() if (v.value != 0).any()}


def stepped(net, opt):
    opt.update({path: jnp.full_like(v.value, -1.0) for path, v in net.vars().items()})
    return net


def in_group(where, tmp_path):
    net = model()
    rule = {"match": where, "lr": 0.5}
    return moved(stepped(net, bo.optim.SGD(0.0, net, groups=[rule])))


def in_bounds(where, tmp_path):
    net = model()
    rule = {"match": where, "bounds": (0.0, 0.0)}
    return set(PATHS) - moved(stepped(net, bo.optim.SGD(0.1, net, groups=[rule])))


def of_sign(where, tmp_path):
    net = model()
    rule = {"match": where, "sign": -1}
    return set(PATHS) - moved(stepped(net, bo.optim.SGD(0.1, net, groups=[rule])))


def masked(where, tmp_path):
    net = model()
    for v in net.vars().values():
        v.value = jnp.ones_like(v.value)
    opt = bo.optim.AdamW(1.0, net, weight_decay=0.5, mask=where)
    opt.update({path: jnp.zeros_like(v.value) for path, v in net.vars().items()})
    return {path for path, v in net.vars().items() if (v.value != 1).any()}


def saved(tmp_path):
    net = model()
    for v in net.vars().values():
        v.value = jnp.ones_like(v.value)
    checkpoint.save(tmp_path / "f", net)
    return tmp_path / "f"


def only(where, tmp_path):
    net = model()
    checkpoint.restore(saved(tmp_path), net, only=where)
    return moved(net)


def skipped(where, tmp_path):
    net = model()
    checkpoint.restore(saved(tmp_path), net, skip=where)
    return set(PATHS) - moved(net)


PLACES = [frozen, thawed, in_group, in_bounds, of_sign, masked, only, skipped]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_every_place_takes_every_kind_of_choice(place, kind, tmp_path):
    where, expected = KINDS[kind]
    assert place(where, tmp_path) == expected


@pytest.mark.parametrize(
    "where, expected",
    [KINDS[k] for k in ("path", "path and below", "glob", "re", "matrices")],
)
def test_the_command_line_takes_what_is_text(where, expected, tmp_path, capsys):
    assert main(["inspect", str(saved(tmp_path)), "--match", where, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {entry["path"] for entry in told["entries"]} == expected


TYPOS = [
    "encc",
    "*.bias",
    "re:lay",
    re.compile("x"),
    ["enc", "outt"],
    {"encc": True, "": False},
]


@pytest.mark.parametrize("where", TYPOS, ids=str)
@pytest.mark.parametrize("place", [frozen, only, skipped])
def test_what_is_done_once_refuses_a_name_that_fits_nothing(place, where, tmp_path):
    with pytest.raises((PathError, CheckpointMismatchError)) as refused:
        place(where, tmp_path)
    said = [w for w in ("encc", "*.bias", "re:lay", "x", "outt") if w in str(where)]
    assert said[-1] in str(refused.value)


@pytest.mark.parametrize("where", TYPOS[:-1], ids=str)
@pytest.mark.parametrize("place", [in_group, masked])
def test_rules_for_later_variables_warn_of_a_name_that_fits_nothing(
    place, where, tmp_path
):
    with pytest.warns(UserWarning, match="fit no variable"):
        place(where, tmp_path)


@pytest.mark.parametrize("where", [3, 0.5, 1j, "re:(", [3]], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_every_place_refuses_what_is_no_choice(place, where, tmp_path):
    with pytest.raises(PathError, match=r"chooses no variables|is no pattern"):
        place(where, tmp_path)


def test_a_tree_that_says_nothing_of_a_variable_names_it():
    with pytest.raises(PathError, match=r"(?s)says nothing.*layers\.0\.W"):
        Choice({"enc": True})("layers.0.W", np.zeros(2))


def test_a_choice_survives_pickle_and_is_equal_by_content():
    choice = Choice(["enc", "re:x+"])
    again = pickle.loads(pickle.dumps(choice))
    assert again == choice != Choice("enc")
    assert again("enc.W", None)


def test_numpy_bools_choose_all_or_none():
    assert Choice(np.True_)("w") and not Choice(np.False_)("w")


@pytest.mark.parametrize(
    "rename, old, new",
    [
        ({"enc": "net.encoder"}, "enc.W", "net.encoder.W"),
        ({"enc": "a", "enc.W": "b"}, "enc.W", "b"),
        ({"": "net"}, "enc.W", "net.enc.W"),
        ({"net": ""}, "net.enc.W", "enc.W"),
        ({"enc": "a"}, "encoder.W", "encoder.W"),
        ({r"re:^module\.": ""}, "module.enc.W", "enc.W"),
        ({r"re:l(\d)": r"layers.\1"}, "l0.W", "layers.0.W"),
        ([("a", "b"), ("re:b", "c")], "a.W", "c.W"),
        (("a", "b"), "a", "b"),
        (str.upper, "a", "A"),
        (None, "a", "a"),
    ],
)
def test_a_renaming_takes_names_patterns_and_functions(rename, old, new):
    assert Renaming(rename)(old) == new


def test_a_renaming_names_what_it_does_not_find():
    renaming = Renaming(
        {"enc": "a", "dec": "b", "re:W$": "V", "re:^a": "c", "re:z": "y"}
    )
    assert renaming.unmatched(["enc.W", "out"]) == ["dec", "re:z"]
