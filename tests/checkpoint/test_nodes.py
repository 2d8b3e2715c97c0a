# SPDX-License-Identifier: Apache-2.0
"""Real Nodes and optimizers go through a file: R11, R12 and R13 without a stand-in."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.core import _walk
from brainopt.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
)
from tests.checkpoint.trees import same


def net(width=3, dtype="f4", names=("W", "b")):
    node = bo.Node()
    node.layers = [bo.Node(), bo.Node()]
    for layer in node.layers:
        for name in names:
            shape = (2, width) if name == "W" else (width,)
            setattr(layer, name, bo.TrainVar(jnp.ones(shape, dtype)))
    return node


def trained(node, make=bo.optim.AdamW, lr=0.01, **settings):
    opt = make(lr, node, **settings)
    for _ in range(3):
        opt.update(
            {path: jnp.ones_like(v.value) for path, v in node.train_vars().items()}
        )
    return opt


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of a trained net and its AdamW."""
    node, path = net(), tmp_path_factory.mktemp("run") / "f"
    checkpoint.save(path, {"net": node, "opt": trained(node), "epoch": 3})
    return path


def state(node, opt):
    return {**node.state_dict(), **{f"opt.{k}": v for k, v in opt.state_dict().items()}}


def refusal(path, node, opt, **options):
    """The differences told; nothing has changed."""
    before = state(node, opt)
    with pytest.raises(CheckpointMismatchError) as caught:
        checkpoint.restore(path, {"net": node, "opt": opt}, **options)
    same = {k: v is before[k] or v == before[k] for k, v in state(node, opt).items()}
    assert all(same.values())
    return caught.value.differences


def test_a_run_comes_back_and_goes_on_with_the_same_bits(path):
    there = net()
    first = trained(there)
    here = net()
    second = bo.optim.AdamW(0.5, here, beta1=0.5)
    assert checkpoint.restore(path, {"net": here, "opt": second}) == {"epoch": 3}
    grad = {path: jnp.full_like(v.value, 0.3) for path, v in there.train_vars().items()}
    for opt in (first, second):
        opt.update(grad)
    assert same(state(there, first), state(here, second))
    assert second.step.value == 4 and abs(second.beta1 - 0.9) < 1e-7


MISFITS = {
    "shapes": ({"width": 4}, "stored (2, 3) float32, variable (2, 4) float32"),
    "dtype": ({"dtype": "f2"}, "stored (2, 3) float32, variable (2, 3) float16"),
    "missing": ({"names": "Wbc"}, "net.layers.1.c: missing from the file"),
    "unexpected": ({"names": "W"}, "net.layers.1.b: in the file, and not in the node"),
    "renamed": ({"names": "Wc"}, "opt.slots.layers.0.c.m: missing from the file"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_model_that_does_not_fit_is_refused_with_all_of_it(path, case):
    changed, said = MISFITS[case]
    node = net(**changed)
    told = refusal(path, node, bo.optim.AdamW(0.1, node))
    parts = ["net.layers.0", "net.layers.1"]
    parts += [] if case == "dtype" else ["opt.slots.layers.0"]  # moments are float32
    assert all(any(part in line for line in told) for part in parts), told
    assert any(said in line for line in told), told


SETTINGS = {
    "class": (bo.optim.Adam, {}, "opt.class: stored 'AdamW', this one has 'Adam'"),
    "option": (
        bo.optim.AdamW,
        {"amsgrad": True},
        "opt.groups.default.options.amsgrad: stored False",
    ),
    "dialect": (
        bo.optim.AdamW,
        {"dialect": "torch"},
        "opt.groups.default.options.dialect: stored 'document', this one has 'torch'",
    ),
    "slots": (bo.optim.AdamW, {"amsgrad": True}, "slots.layers.0.W.v_max: missing"),
    "precision": (bo.optim.AdamW, {"precision": "kahan"}, "opt.precision: stored"),
    "schedule": (
        bo.optim.AdamW,
        {"lr": bo.optim.StepLR(0.1, 5)},
        "opt.groups.default.schedule: stored 'Constant', this one has 'StepLR'",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_an_optimizer_of_other_settings_is_refused(path, case):
    make, settings, said = SETTINGS[case]
    node = net()
    told = refusal(path, node, make(**{"lr": 0.1, "train_vars": node, **settings}))
    assert any(line.startswith(said) or said in line for line in told), told


def test_a_class_of_another_name_is_taken_as_the_error_says(tmp_path):
    class Renamed(bo.Node):
        def __init__(self):
            self.W = bo.TrainVar(jnp.zeros(2))

    class Net(Renamed):
        pass

    saved, node = Net(), Renamed()
    saved.W.value = saved.W.value + 1
    checkpoint.save(tmp_path / "a.bopt", {"net": saved})
    with pytest.raises(CheckpointMismatchError, match=r"skip=\['\*\.class'\]"):
        checkpoint.restore(tmp_path / "a.bopt", {"net": node})
    checkpoint.restore(tmp_path / "a.bopt", {"net": node}, skip=["*.class"])
    np.testing.assert_array_equal(node.W.value, [1, 1])


def test_hyperparameters_stand_in_the_manifest_by_name(path):
    notes = checkpoint.inspect(path).nodes["opt"]["notes"]
    assert notes["groups.default.beta2"] == 0.999
    assert notes["groups.default.schedule.lr"] == 0.01


@pytest.mark.filterwarnings("ignore:The model of this AdamW has changed")
@pytest.mark.parametrize("entry", range(4))
def test_a_mismatch_at_any_variable_changes_no_variable(path, entry):
    node = net()
    opt = bo.optim.AdamW(0.1, node)
    layer, name = node.layers[entry // 2], "Wb"[entry % 2]
    delattr(layer, name)
    setattr(layer, name, bo.TrainVar(jnp.zeros((7, 7))))
    told = refusal(path, node, opt)
    assert [line for line in told if "(7, 7)" in line]


def test_only_skip_rename_strict_and_cast_reach_real_nodes(path):
    node, stem = net(), bo.Node()
    checkpoint.restore(path, {"net": node}, only="net.layers.1.*")
    assert (node.layers[0].W.value == 1).all() and node.layers[1].W.value[0, 0] < 1
    stem.stem = net().layers[0]
    rename = [(r"re:layers\.0", "stem")]
    checkpoint.restore(path, {"net": stem}, skip=["opt", "*.1.*"], rename=rename)
    assert stem.stem.W.value[0, 0] < 1
    half = net(3, "f2")
    checkpoint.restore(path, {"net": half}, skip="opt", cast=True)
    assert half.layers[0].W.value.dtype == "float16"
    more = net(3, "f4", ("W", "b", "c"))
    checkpoint.restore(path, {"net": more}, strict=False)
    assert more.layers[0].W.value[0, 0] < 1 and (more.layers[0].c.value == 1).all()


def test_a_float64_file_is_refused_with_x64_off_unless_cast(tmp_path):
    with jax.enable_x64(True):
        wide = bo.Node()
        wide.W = bo.TrainVar(np.arange(3.0))
        checkpoint.save(tmp_path / "f", wide)
    node = bo.Node()
    node.W = bo.TrainVar(np.zeros(3, "f4"))
    with pytest.raises(CheckpointMismatchError, match=r"stored \(3,\) float64"):
        checkpoint.restore(tmp_path / "f", node)
    checkpoint.restore(tmp_path / "f", node, cast=True)
    assert node.W.value.dtype == "float32" and node.W.value[2] == 2


@pytest.mark.more
@pytest.mark.parametrize("saves", [50, pytest.param(500, marks=pytest.mark.long)])
def test_saves_beside_a_donating_training_thread_are_from_one_step(tmp_path, saves):
    node = bo.Node()
    node.W, node.n = bo.TrainVar(jnp.zeros(5000)), bo.Variable(jnp.int32(0))
    opt, stop = bo.optim.SGD(1.0, node), threading.Event()

    @bo.jit
    def step():
        node.n.value = node.n.value + 1
        opt.update({"W": -jnp.ones(5000)})

    def train():
        while not stop.is_set():
            step()

    step()
    thread = threading.Thread(target=train)
    thread.start()
    try:
        with checkpoint.AsyncSaver() as saver:
            for _ in range(saves):
                saver.save(tmp_path / "f", {"net": node, "opt": opt})
                saver.wait()
                found = checkpoint.load(tmp_path / "f")
                count = found["net"]["n"]
                assert (found["net"]["W"] == count).all()
                assert found["opt"]["step"] == count
    finally:
        stop.set()
        thread.join()


def test_a_copy_that_fails_while_writing_names_the_variable(tmp_path, monkeypatch):
    node = net()
    checkpoint.save(tmp_path / "f", 1)

    with checkpoint.AsyncSaver() as saver:
        monkeypatch.setattr("brainopt.checkpoint.tree._leaves._joined", failing_copy)
        saver.save(tmp_path / "f", {"net": node})
        with pytest.raises(CheckpointError, match=r"net\.layers\.0\.W: .*EXHAUSTED"):
            saver.wait()
    assert checkpoint.load(tmp_path / "f") == 1


def failing_copy(value, parts):
    raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_a_save_and_a_restore_walk_each_node_once(tmp_path, monkeypatch):
    tree = {"net": net(), "opt": bo.optim.AdamW(0.01, net())}
    walked, walk = [], _walk._walk
    monkeypatch.setattr(
        _walk, "_walk", lambda root, level: walked.append(root) or walk(root, level)
    )
    for act in (checkpoint.save, checkpoint.restore):
        act(tmp_path / "f", tree)
        counts = [sum(root is node for root in walked) for node in tree.values()]
        assert counts == [1, 1]
        walked.clear()


def test_what_a_hook_adds_in_a_save_is_saved(tmp_path):
    class Grows(bo.Node):
        def _prepare_save(self):
            self.late = bo.Variable(jnp.ones(2))

    checkpoint.save(tmp_path / "f", Grows())
    assert list(checkpoint.load(tmp_path / "f")) == ["late"]


def test_a_damaged_array_leaves_nothing_that_was_prepared(tmp_path):
    def made():
        node = bo.Node()
        node.w, node.v = bo.TrainVar(jnp.ones((200, 200))), bo.TrainVar(jnp.ones(2))
        return bo.optim.AdamW(0.1, node)

    saved, opt = made(), made()
    saved.update({"w": jnp.ones((200, 200)), "v": None})  # counts what v missed
    checkpoint.save(tmp_path / "f", saved)
    entry = next(
        e for e in checkpoint.inspect(tmp_path / "f").entries if e.nbytes > 9e4
    )
    data = bytearray((tmp_path / "f").read_bytes())
    data[entry.offset + 1000] ^= 4
    (tmp_path / "f").write_bytes(data)
    before = list(opt.state_dict())
    with pytest.raises(CheckpointCorruptError):
        checkpoint.restore(tmp_path / "f", opt)
    assert list(opt.state_dict()) == before


def test_two_values_for_a_variable_that_nodes_share_are_refused(tmp_path):
    one, two, tied = net(), net(), net()
    for layer in two.layers:
        layer.W.value = layer.W.value + 1
    checkpoint.save(tmp_path / "f", {"one": one, "two": two})
    before = tied.state_dict()
    both = bo.Node()
    both.layers = tied.layers
    with pytest.raises(
        CheckpointMismatchError, match=r"two\.layers\.0\.W: another node"
    ):
        checkpoint.restore(tmp_path / "f", {"one": tied, "two": both})
    assert same(before, tied.state_dict())
    checkpoint.save(tmp_path / "g", {"one": one, "two": one})
    checkpoint.restore(tmp_path / "g", {"one": tied, "two": both})
