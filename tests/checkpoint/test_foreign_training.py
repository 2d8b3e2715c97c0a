# SPDX-License-Identifier: Apache-2.0
"""A run that another library began goes on here with the same numbers (R22).

The files of ``golden/foreign`` were written by the real libraries; where one of them
is installed, the file is also written anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint, optim
from tests.checkpoint.golden import make_foreign as golden

FOREIGN = Path(__file__).parent / "golden" / "foreign"
LR, RATE = golden.LR, 1e-6
NAMES = {
    "flax": {"params": "net"},
    "orbax": {"params": "net"},
    "torch": {"model": "net"},
    # BrainPy numbers the layers of a process; each net here has two of them.
    "brainpy": [(r"re:Layer\d*[02468]\b", "l1"), (r"re:Layer\d*[13579]\b", "l2")],
    "braintools": None,
}
NEEDED = {
    "flax": ("flax", "optax"),
    "orbax": ("orbax", "optax"),
    "torch": ("torch", "safetensors"),
    "brainpy": ("brainpy",),
    "braintools": ("braintools",),
}


def optimizer(library, kind, net):
    """The optimizer of ours that the run goes on with."""
    decayed = {"weight_decay": 0.1 if kind == "adamw" else 0.01}
    if library == "flax" and kind == "adamw":
        decayed["dialect"] = "optax"
    if library in ("torch", "brainpy"):
        decayed |= {"dialect": library, "amsgrad": kind == "adamw_amsgrad"}
    if kind.startswith("adamw"):
        lr = optim.StepLR(LR, 4, 0.5) if kind == "adamw_epochs" else LR
        return optim.AdamW(lr, net, **decayed)
    if kind.startswith("adam"):
        decay = optim.ExponentialDecayLR(LR, 50, 0.8)
        return optim.Adam(decay if kind == "adam_schedule" else LR, net)
    rule = {"sgd": optim.SGD, "momentum": optim.Momentum}[kind]
    return rule(golden.SLOW, net, momentum=0.9)


def model():
    """A net whose parameters have the paths and shapes of the golden ones."""
    net = bo.Node()
    net.l1, net.l2 = bo.Node(), bo.Node()
    net.l1.W, net.l1.b = bo.TrainVar(np.zeros((3, 4), "f4")), bo.TrainVar([0.0] * 4)
    net.l2.W = bo.TrainVar(np.zeros((4, 2), "f4"))
    return net


def goes_on(path, now, end, folder):
    """Convert a file, restore it, and train on: every number is where theirs is."""
    library, kind = path.name.partition(".")[0].split("_", 1)
    kind = kind.removesuffix("_v1").removesuffix("_v2")
    told = {"step": golden.BEFORE} if kind in ("sgd", "momentum") else {}
    net, names = model(), NAMES[library]
    opt = optimizer(library, kind, net)
    checkpoint.convert(path, folder / "net.bopt", rename=names)
    checkpoint.restore(folder / "net.bopt", {"net": net}, only="net")
    checkpoint.convert(path, folder / "opt.bopt", optimizer="opt", rename=names, **told)
    taken = ["opt.step", "opt.slots"]
    taken += ["opt.*.last_epoch"] if kind == "adamw_epochs" else []
    checkpoint.restore(folder / "opt.bopt", {"opt": opt}, only=taken)
    for name, value in now.items():
        assert (net.state_dict()[name] == np.asarray(value, "f4")).all()
    for number, grad in enumerate(golden.grads()[golden.BEFORE :]):
        opt.update(grad)
        if kind == "adamw_epochs" and number % 15 == 14:
            opt.lr.step_epoch()
    for name, value in end.items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=RATE, atol=0)
    assert opt.step.value == golden.BEFORE + golden.AFTER


@pytest.mark.parametrize("name", golden.CASES)
def test_the_file_of_another_library_goes_on(tmp_path, name):
    ends = json.loads((FOREIGN / "ends.json").read_text("utf-8"))[name]
    goes_on(FOREIGN / name, ends["now"], ends["end"], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.hosts(*NEEDED[name.split("_")[0]]))
        for name in (*golden.CASES, *golden.LIVE)
    ],
)
def test_a_run_of_the_installed_library_goes_on(tmp_path, name):
    make, *args = {**golden.CASES, **golden.LIVE}[name]
    now, end = make(args[0], tmp_path, *args[1:])
    goes_on(tmp_path / name, now, end, tmp_path)
