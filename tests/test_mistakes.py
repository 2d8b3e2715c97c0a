# SPDX-License-Identifier: Apache-2.0
"""Each mistake of a first day is named, and its mend is said."""

import re
import textwrap
import warnings

import jax
import pytest

import brainopt as bo
from brainopt import errors

from .mistakes import MISTAKES, SETUP


def _seen(code):
    """Return what comes of the code, an error or a warning, and where it stands."""
    names = {"__name__": "mistakes"}
    told = warnings.catch_warnings(record=True)
    with told as caught, jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("always")
        exec(textwrap.dedent(SETUP), names)
        del caught[:]
        try:
            exec(compile(code, "<the user>", "exec"), names)
        except Exception as error:
            return error, "<the user>"
    return (caught[0].message, caught[0].filename) if caught else (None, "")


def _said(seen):
    return "\n".join([str(seen), *getattr(seen, "__notes__", [])])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_mend(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, kind, thing, mend = MISTAKES[name]

    seen, place = _seen(code)

    assert isinstance(seen, kind), seen
    assert re.search(thing, _said(seen), re.DOTALL)
    assert re.search(mend, _said(seen), re.DOTALL)
    assert place == "<the user>"


def test_a_warning_is_silenced_by_its_class():
    node = bo.Node()
    node.v = bo.Variable([1.0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", errors.TrainingWarning)
        bo.optim.SGD(0.1, node)


def test_a_summary_tells_of_epochs_that_nobody_counts():
    schedule = bo.optim.CosineAnnealingLR(0.1, T_max=4)
    rule = {"match": "param", "lr_mult": 0.1}  # a group without a schedule of its own
    opt = bo.optim.SGD(schedule, bo.TrainVar([1.0]), groups=[rule])
    for _ in range(10):
        opt.update(jax.numpy.ones(1))

    assert "step_epoch() was not called in 10 updates" in str(opt.summary())
    schedule.step_epoch()
    assert str(opt.summary()).count("epochs: 1") == 1


def test_one_optimizer_after_another_is_no_mistake():
    w = bo.TrainVar([1.0])
    first, second = bo.optim.SGD(0.1, w), bo.optim.Adam(0.1, w)

    for opt in (first, first, second, second):
        opt.update(jax.numpy.ones(1))


def test_modes_and_layers_are_followed_and_prints_come_once(capsys):
    net = bo.Node()
    net.scales, net.training = [bo.TrainVar([3.0])], True

    @bo.jit
    def run(x):
        print("traced")
        for scale in net.scales:
            x = x * scale.value
        return 2 * x if net.training else x

    assert run(1.0).tolist() == [6.0] and capsys.readouterr().out == "traced\n"
    net.training = False
    assert run(1.0).tolist() == [3.0]
    net.scales.append(bo.TrainVar([5.0]))
    assert run(1.0).tolist() == [15.0]


def test_two_optimizers_in_turn_are_told_of_once():
    w = bo.TrainVar([1.0])
    pair = bo.optim.SGD(0.1, w), bo.optim.Adam(0.1, w)

    with pytest.warns(errors.TrainingWarning, match="Two optimizers") as told:
        for opt in pair * 4:
            opt.update(jax.numpy.ones(1))

    assert len(told) == 1


def test_there_are_sixty():
    assert len(MISTAKES) >= 60
